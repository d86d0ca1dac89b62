"""How objects are encrypted where they lie, for buckets whose policy wants to hear it with each write.

A bucket's own default encryption needs nothing here.
"""

import os
from collections.abc import Mapping

from modelyard.errors import BadInput

ALGORITHM, KEY = "MODELYARD_S3_ENCRYPTION", "MODELYARD_S3_KMS_KEY"
KNOWN = ("AES256", "aws:kms", "aws:kms:dsse")


def encryption(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a write says of it, as boto3 takes it; nothing where the environment says nothing.

    Raises:
        BadInput: an algorithm that S3 does not know, or a key that would not act.
    """
    algorithm, key = environment.get(ALGORITHM, ""), environment.get(KEY, "")
    if algorithm and algorithm not in KNOWN:
        raise BadInput(f"{ALGORITHM} is {algorithm!r}", do=f"set it to one of {', '.join(KNOWN)}, or not at all")
    if key and not algorithm.startswith("aws:kms"):
        raise BadInput(f"{KEY} does nothing with {ALGORITHM}={algorithm}", do=f"set {ALGORITHM}=aws:kms")
    said = {"ServerSideEncryption": algorithm} if algorithm else {}
    return said | ({"SSEKMSKeyId": key} if key else {})
