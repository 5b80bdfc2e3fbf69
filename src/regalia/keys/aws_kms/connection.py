"""Calls of AWS KMS: signed by botocore, sent by this project's bounded transport (ADR 0018)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from regalia.core.errors import KeyAccessError, UnavailableError, UsageError
from regalia.core.tame import tame
from regalia.keys.aws_kms.codes import AwsKmsCode
from regalia.keys.codes import KeysCode
from regalia.keys.service_codes import KeyServiceCode
from regalia.keys.service_http import ServiceHttp, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.errors import Code, RegaliaError
    from regalia.keys.aws_kms.address import KmsAddress
    from regalia.keys.service_http import Answer

# At level DEBUG, botocore logs session tokens and signatures.
logging.getLogger("botocore").setLevel(logging.WARNING)

_OK, _SERVER_ERRORS = 200, 500
_ATTEMPTS = 3
_PAUSE_S = 0.3  # before the second attempt; twice as long before the third
_LOGIN = KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED
_FAILED = KeyServiceCode.KEY_SERVICE_FAILED
_CODES: dict[str, Code] = {
    "AccessDeniedException": KeyServiceCode.KEY_SERVICE_NOT_ALLOWED,
    "DependencyTimeoutException": _FAILED,
    "DisabledException": KeyServiceCode.KEK_DISABLED,
    "ExpiredTokenException": _LOGIN,
    "IncompleteSignatureException": _LOGIN,
    "IncorrectKeyException": KeysCode.KEK_MISMATCH,
    "InvalidCiphertextException": KeysCode.KEY_UNWRAP_FAILED,
    "InvalidSignatureException": _LOGIN,
    "KMSInternalException": _FAILED,
    "KMSInvalidStateException": KeyServiceCode.KEK_DISABLED,
    "KeyUnavailableException": _FAILED,
    "MissingAuthenticationTokenException": _LOGIN,
    "NotFoundException": KeysCode.KEK_UNKNOWN,
    "ThrottlingException": KeyServiceCode.KEY_SERVICE_BUSY,
    "UnrecognizedClientException": _LOGIN,
}
_MAY_PASS = frozenset({KeyServiceCode.KEY_SERVICE_BUSY, _FAILED})
_OF_CLOCKS = ("Signature expired", "Signature not yet current")


class _Problem(msgspec.Struct, frozen=True, rename={"kind": "__type"}):
    kind: str = ""
    message: str = ""


class Connection:
    """Sends calls to KMS in one region. Thread-safe.

    Args:
        address: of the keys.
        pause: replaces ``time.sleep`` between attempts in tests.

    Raises:
        UsageError: KEY_SERVICE_ADDRESS, also of the SDK's own configuration.
        KeyAccessError: KEY_SERVICE_LOGIN_REFUSED, there are no credentials.
    """

    def __init__(self, address: KmsAddress, *, pause: Callable[[float], None] = time.sleep) -> None:
        self.address = address
        self._pause = pause
        try:
            session = Session()
            self._credentials = session.get_credentials()
            endpoint = address.endpoint or _endpoint(session, address.region)
        except (BotoCoreError, ClientError, ValueError) as exc:
            # The type only: such texts quote files and addresses.
            raise UsageError(
                KeyServiceCode.KEY_SERVICE_ADDRESS,
                f"{address}: the SDK's configuration: {type(exc).__name__}",
            ) from None
        if self._credentials is None:
            raise KeyAccessError(_LOGIN, f"{address}: the SDK's usual places hold no credentials")
        self._http = ServiceHttp(endpoint, TlsFiles(address.authorities).context())

    def call(self, name: str, members: dict[str, Any], *, doing: str) -> bytes:
        """Call KMS, and return the body of its answer.

        Args:
            name: of the call.
            members: of the request.
            doing: what for, for messages.

        Raises:
            KeyAccessError: KMS refuses; the code says why.
            UnavailableError: it cannot be reached, is busy or fails.
        """
        body = msgspec.json.encode(members)
        for number in range(1, _ATTEMPTS + 1):
            answer = self._http.exchange("POST", "/", self._signed(name, body), body)
            if answer.status == _OK:
                return answer.body
            failure = self._failure(answer, doing)
            # All calls that are made here change nothing, so each may be repeated.
            if number == _ATTEMPTS or failure.code not in _MAY_PASS:
                break
            self._pause(_PAUSE_S * number)
        raise failure

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _signed(self, name: str, body: bytes) -> dict[str, str]:
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"TrentService.{name}",
        }
        request = AWSRequest("POST", f"{self._http.base}", headers=headers, data=body)
        try:
            frozen = self._credentials.get_frozen_credentials()
            SigV4Auth(frozen, "kms", self.address.region).add_auth(request)
        except (BotoCoreError, ClientError, RuntimeError) as exc:
            # RuntimeError: credentials that are still expired after they were fetched again.
            what = f"{self.address}: credentials could not be renewed: {type(exc).__name__}"
            raise KeyAccessError(_LOGIN, what) from None
        return dict(request.headers)

    def _failure(self, answer: Answer, doing: str) -> RegaliaError:
        try:
            problem = msgspec.json.decode(answer.body, type=_Problem)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            problem = _Problem()
        kind = problem.kind.rpartition("#")[2]
        said = tame(f"{kind} {problem.message}")[:300].rstrip()
        what = f"{self.address}: {doing}: status {answer.status} {said}".rstrip()
        if any(text in problem.message for text in _OF_CLOCKS):
            return KeyAccessError(AwsKmsCode.KEY_SERVICE_CLOCK, what)
        code = _CODES.get(kind, _FAILED)
        passing = code is KeyServiceCode.KEY_SERVICE_BUSY or answer.status >= _SERVER_ERRORS
        return UnavailableError(code, what) if passing else KeyAccessError(code, what)


def _endpoint(session: Session, region: str) -> httpx.URL:
    """What botocore makes of a region. Nothing is sent."""
    client = session.create_client(
        "kms", region_name=region, config=Config(signature_version=UNSIGNED)
    )
    url = httpx.URL(str(client.meta.endpoint_url))
    client.close()
    return url
