"""Stores that are buckets with the S3 protocol: the one home of boto3."""

from modelyard.storage.s3.store import S3Store

__all__ = ["S3Store"]
