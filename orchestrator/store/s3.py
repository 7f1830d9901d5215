"""Checkpoints in a bucket of S3, or of a store that speaks its protocol. The only home of boto3.

Credentials and region are found as boto3 finds them: `AWS_*` variables, a profile, the machine's role.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO

from ..errors import CheckpointRefused, CheckpointsUnavailable, ConfigurationError
from ..failpoints import failpoint
from .places import Stored

CONNECT_S, READ_S = 5, 60
ATTEMPTS = 4


class BucketPlace:
    """Objects whose keys begin with a prefix. An upload is one request: the object is there whole or not at all."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.where = f"s3://{bucket}/{prefix}".rstrip("/")

    def names(self, folder: str) -> dict[str, Stored]:
        """See Place."""
        prefix = self._prefix + (f"{folder}/" if folder else "")
        found = {}
        with self._explained("listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                now = datetime.now(UTC)
                for entry in page.get("Contents", ()):
                    age_s = (now - entry["LastModified"]).total_seconds()
                    found[str(entry["Key"])[len(self._prefix) :]] = Stored(entry["Size"], age_s)
        return found

    def put(self, name: str, file: BinaryIO) -> None:
        """See Place. The request carries the SHA-256 of its body, signed: the store refuses another one."""
        with self._explained("written"):
            failpoint("K15")
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=file)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """See Place."""
        with self._explained("read"):
            try:
                body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"]
            except self._client.exceptions.NoSuchKey as error:
                raise CheckpointRefused(f"{self.where}/{name} is missing") from error
            with body:
                yield body

    def remove(self, name: str) -> None:
        """See Place."""
        with self._explained("cleared"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            raise CheckpointsUnavailable(
                f"checkpoints in {self.where} cannot be {what}: {error}. Needed are the rights to list, get, put and"
                " delete below that prefix; see docs/checkpoints.md"
            ) from error


def bucket_place(bucket: str, prefix: str, endpoint: str) -> BucketPlace:
    """The place of a bucket. Raises ConfigurationError without the extra, or for an endpoint that is none."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise ConfigurationError(
            f"s3://{bucket} needs an extra: pip install 'durable-orchestrator[s3]', in an image LOCK=s3"
        ) from error
    if not bucket:
        raise ConfigurationError("ORCHESTRATOR_CHECKPOINT_URL names no bucket: as in s3://bucket/prefix")
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        # Stores that speak the protocol know no checksums behind a body, but all of them check a signed body's hash.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": True, "addressing_style": "path" if endpoint else "auto"},
    )
    try:
        client = boto3.client("s3", endpoint_url=endpoint or None, config=config)
    except Exception as error:
        # botocore has no common base for what a profile, a region or an address can be wrong with.
        raise ConfigurationError(f"s3://{bucket} cannot be used: {error}") from error
    return BucketPlace(client, bucket, prefix)
