"""What a bucket's refusals mean: each error of boto3 as one of ours, which names the way out."""

from boto3.exceptions import Boto3Error, RetriesExceededError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from s3transfer.exceptions import S3DownloadFailedError

from modelyard.errors import BadInput, ModelyardError, Unavailable
from modelyard.storage.s3.encryption import KEY

ERRORS = (ClientError, BotoCoreError, Boto3Error, S3DownloadFailedError)
"""All that boto3 raises of a bucket."""
WORDLESS = ("301", "400", "403", "404")
"""What an answer without a body is called, such as one to HEAD: its status, not its reason."""
_CUT = (IncompleteReadError, ResponseStreamingError, ReadTimeoutError, FlexibleChecksumError, S3DownloadFailedError)


class Cut(Unavailable):
    """Bytes did not arrive whole: worth another try."""


class Taken(ModelyardError):
    """Something stands there already, and was not to be replaced."""


class NotKnown(ModelyardError):
    """The server has no conditional writes."""


def root_of(error: Exception) -> Exception:
    """What boto3's transfers wrap."""
    if isinstance(error, RetriesExceededError):
        last: Exception = error.last_exception
        return last
    wrapped = error.__context__ if isinstance(error, Boto3Error) else None
    return wrapped if isinstance(wrapped, ClientError | BotoCoreError) else error


def code_of(error: Exception) -> str:
    """The reason that a server gave; empty where none did."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def explained(error: Exception, *, uri: str, bucket: str, key: str) -> ModelyardError:
    """One of our errors for one of boto3's."""
    if isinstance(error, ClientError):
        return _refused(error, uri=uri, bucket=bucket, key=key)
    if isinstance(error, NoCredentialsError | PartialCredentialsError | NoRegionError):
        return BadInput(f"{uri}: {error}", do="set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY")
    if isinstance(error, SSLError):
        return BadInput(
            f"{uri}: the server's certificate is not trusted ({error})",
            do="set AWS_CA_BUNDLE to the file of the authority that signed it",
        )
    if isinstance(error, _CUT) or "IncompleteRead" in repr(error):
        return Cut(f"{key} in {uri} did not arrive whole: {error}", do="check the network, try again")
    return Unavailable(f"{uri} is away: {error}", do="check AWS_ENDPOINT_URL, try again")


def _refused(error: ClientError, *, uri: str, bucket: str, key: str) -> ModelyardError:
    code = code_of(error)
    credentials = {
        "InvalidAccessKeyId": "check the credentials: AWS_ACCESS_KEY_ID is not known there",
        "SignatureDoesNotMatch": "check the credentials: AWS_SECRET_ACCESS_KEY is not that of AWS_ACCESS_KEY_ID",
        "ExpiredToken": "check the credentials: AWS_SESSION_TOKEN has run out, get a new one",
        "InvalidToken": "check the credentials: AWS_SESSION_TOKEN is not of this AWS_ACCESS_KEY_ID",
        "AccessDenied": "check the credentials and what they may do",
        "403": "check the credentials and what they may do",
    }
    told = dict[str, ModelyardError]()
    for one in ("NoSuchKey", "404", "NoSuchVersion"):
        told[one] = BadInput(f"There is no object {key!r} in {uri}", do="restore it or name another one")
    for one, do in credentials.items():
        told[one] = BadInput(f"{uri} refuses us: {code}", do=do)
    for one in ("PermanentRedirect", "AuthorizationHeaderMalformed", "301"):
        told[one] = BadInput(f"The bucket {bucket!r} lies in another region ({code})", do=_region(error))
    told |= {
        "NoSuchBucket": BadInput(f"There is no bucket {bucket!r}", do="correct the address"),
        "RequestTimeTooSkewed": BadInput(
            f"The clocks of {uri} and of this machine differ too much", do="set this machine's clock (NTP)"
        ),
        "PreconditionFailed": Taken(f"{key} is in {uri} already", do="read it"),
        "NotImplemented": NotKnown(f"{uri} answered {error}", do="use a server that knows it"),
        "ConditionalRequestConflict": Cut(f"{key} in {uri} was being written by another", do="try again"),
    }
    if code.startswith("KMS."):
        return BadInput(f"{uri} cannot use the key: {code}", do=f"correct {KEY}, or what may be done with it")
    return told.get(code) or Unavailable(f"{uri} answered {error}", do="try again later")


def _region(error: ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
    return f"set AWS_DEFAULT_REGION={region}" if region else "set AWS_DEFAULT_REGION"
