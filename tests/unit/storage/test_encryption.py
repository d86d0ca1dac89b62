"""What the environment says of encryption acts, or is refused."""

import pytest

from modelyard.errors import BadInput
from modelyard.storage.s3.encryption import encryption


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, {}),
        ({"MODELYARD_S3_ENCRYPTION": "AES256"}, {"ServerSideEncryption": "AES256"}),
        (
            {"MODELYARD_S3_ENCRYPTION": "aws:kms", "MODELYARD_S3_KMS_KEY": "k"},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"},
        ),
    ],
    ids=["the bucket's own", "the store's keys", "a key of ours"],
)
def test_a_write_says_what_the_environment_says(environment: dict[str, str], said: dict[str, str]) -> None:
    assert encryption(environment) == said


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"MODELYARD_S3_ENCRYPTION": "aes"}, "is 'aes'. Set it to one of AES256, aws:kms"),
        ({"MODELYARD_S3_KMS_KEY": "k"}, "KMS_KEY does nothing with .*Set MODELYARD_S3_ENCRYPTION=aws:kms"),
        ({"MODELYARD_S3_ENCRYPTION": "AES256", "MODELYARD_S3_KMS_KEY": "k"}, "does nothing with .*AES256"),
    ],
)
def test_what_cannot_act_is_refused(environment: dict[str, str], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        encryption(environment)
