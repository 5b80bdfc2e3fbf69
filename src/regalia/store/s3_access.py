"""Access to a bucket: botocore finds credentials and address, and signs.

The requests themselves are sent by the callers, the way of all stores: bounded in time from the
first byte of an answer on, no redirects, no proxies, and answers that are compared with what was
asked. botocore's own HTTP client follows a bucket to the region that the server names, and waits
without end for a head that trickles in.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    MetadataRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.session import Session

from regalia.core.errors import CoreCode, UnavailableError, UsageError
from regalia.store.attempts import AgainError
from regalia.store.connection import certificates
from regalia.store.names import StoreCode
from regalia.store.s3_address import check_endpoint

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

    from regalia.store.s3_address import S3Address

# At level DEBUG, botocore logs session tokens and signatures.
logging.getLogger("botocore").setLevel(logging.WARNING)

_PROBE = "manifest.json"


class S3Access:
    """Where a bucket's prefix is, and who asks.

    Args:
        address: bucket, prefix, and what the SDK's configuration does not say.

    Attributes:
        base: URL that names under the prefix are appended to.
        root: URL of the bucket, with a slash at its end.
        tls: authorities that the server's certificate may come from.

    Raises:
        UsageError: BAD_CONFIG, also of the SDK's own configuration; STORE_CREDENTIALS_MISSING.
    """

    def __init__(self, address: S3Address) -> None:
        self.address = address
        # As other SDKs do, and as clouds set it: AWS_REGION counts too. botocore does not read it.
        region = ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)
        try:
            session = Session(session_vars={"region": region})
            _refuse_commands(session, address)
            self.base, self.root, self._region = _resolve(session, address)
            self.tls = certificates(session.get_config_variable("ca_bundle"), "AWS_CA_BUNDLE")
        except (BotoCoreError, ValueError) as exc:
            # The type only: such texts quote files and addresses.
            raise _bad(address, f"the SDK's configuration: {type(exc).__name__}") from None
        self._credentials = _credentials(session, address)

    def sign(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[str, dict[str, str]]:
        """URL and headers of a signed request.

        Args:
            method: of HTTP.
            url: with its query.
            headers: that are signed too.
            body: covered by the signature over http; over https the connection covers it.

        Raises:
            AgainError: the credentials could not be fetched now.
            UnavailableError: STORE_ACCESS_REFUSED, they could not be renewed.
        """
        request = AWSRequest(method, url, headers=headers, data=body)
        try:
            frozen = self._credentials.get_frozen_credentials()
            S3SigV4Auth(frozen, "s3", self._region).add_auth(request)
        except (HTTPClientError, NoConnectionError, MetadataRetrievalError) as exc:
            raise AgainError(
                f"credentials could not be fetched: {type(exc).__name__}", unreachable=True
            ) from None
        except (BotoCoreError, ClientError, RuntimeError) as exc:
            # RuntimeError: credentials that are still expired after they were fetched again.
            why = f"they could not be renewed: {type(exc).__name__}"
            raise self.refused(self.address.describe(), why) from None
        return str(request.url), dict(request.headers)

    def refused(self, what: str, why: str) -> UnavailableError:
        """STORE_ACCESS_REFUSED, with the place where the credentials came from.

        Args:
            what: address of what was asked for.
            why: as the server says it.
        """
        source = str(self._credentials.method)
        return UnavailableError(
            StoreCode.STORE_ACCESS_REFUSED, f"{what}: {why}; credentials from {source[:80]}"
        )


def _refuse_commands(session: Session, address: S3Address) -> None:
    """Whoever writes the shared files may be outside of the TEE, and must run nothing inside."""
    for profile in session.full_config.get("profiles", {}).values():
        if "credential_process" in profile:
            raise _bad(address, "a profile of the shared files names a credential_process")


def _credentials(session: Session, address: S3Address) -> Any:  # noqa: ANN401 - one of many classes
    found, why = None, "the SDK's usual places hold none"
    try:
        found = session.get_credentials()
    except (BotoCoreError, ClientError) as exc:
        why = type(exc).__name__
    if found is None:
        what = f"store {address.describe()}: no credentials: {why}"
        raise UsageError(StoreCode.STORE_CREDENTIALS_MISSING, what)
    return found


def _bad(address: S3Address, what: str) -> UsageError:
    return UsageError(CoreCode.BAD_CONFIG, f"store {address.describe()}: {what}")


def _resolve(session: Session, address: S3Address) -> tuple[str, str, str]:
    """URLs of prefix and bucket, and the region that requests are signed for."""
    style = {"addressing_style": address.addressing} if address.addressing else None
    client = session.create_client(
        "s3",
        region_name=address.region,
        endpoint_url=address.endpoint,
        config=Config(signature_version=UNSIGNED, s3=style),
    )
    url = _address_of(client, address.bucket, address.prefix + _PROBE)
    root = _address_of(client, address.bucket, _PROBE)
    region = str(client.meta.region_name)
    client.close()
    check_endpoint(url)
    return url.removesuffix(_PROBE), root.removesuffix(_PROBE), region


def _address_of(client: Any, bucket: str, key: str) -> str:  # noqa: ANN401 - a class made at runtime
    """What botocore makes of endpoint, style and region for a request, of which nothing is sent.

    The address of a presigned URL is another: botocore takes the global endpoint for those.
    """
    seen: list[str] = []

    def keep(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        seen.append(str(request.url))
        return AWSResponse(request.url, 200, {}, None)

    client.meta.events.register("before-send.s3.GetObject", keep)
    client.get_object(Bucket=bucket, Key=key)
    return seen[0]
