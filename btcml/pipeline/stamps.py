"""Time stamps (RFC 3161) on signed checkpoints: requested from an authority, and checked by a library."""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from btcml import record
from btcml.errors import MarketError, NotReadyError, UsageError
from btcml.files import write_bytes
from btcml.market.transport import fetch_reply, host_of, new_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampRequest

    from btcml.record import CheckStamp, Read, Stamp

LONGEST = 1536
"""Bytes of the longest stamp that is published: 2 KB as base64."""

_OK, _TIMEOUT_S = 200, 10.0
_LARGEST = 1 << 16
"""Bytes of the largest answer that is read, with certificates."""

_CERTIFICATES = 0xA0


# ---- the authority ----
def request_stamp(url: str, size: int, note: str, known: Sequence[Certificate]) -> tuple[Stamp, list[Certificate]]:
    """Ask an authority for a stamp on a signed checkpoint, and check the answer.

    The answer has no certificates. Where that of its signer is not known yet, they are asked for once.

    Parameters
    ----------
    size
        Rows of the checkpoint.
    note
        Its text.
    known
        Certificates of the authority that are known.

    Returns
    -------
    tuple
        The stamp, and the authority's certificates.

    Raises
    ------
    NotReadyError
        If the authority does not answer, or its stamp is not valid.
    UsageError
        If the extra is not installed.
    """
    certificates = list(known)
    request, answer = _ask(url, note, with_certificates=False)
    try:
        stamp = record.parse_stamp(size, answer)
        if not _signers(answer, certificates):
            sent = _sent(_ask(url, note, with_certificates=True)[1])
            certificates += [one for one in sent if one not in certificates]
        roots = [*trusted_roots(), *(one for one in certificates if one.issuer == one.subject)]
        reason = check_stamp(stamp, certificates, roots, request)
    except (ValueError, LookupError):
        reason = "was refused, or cannot be read"
    if not reason and stamp.digest != hashlib.sha256(note.encode()).digest():
        reason = "is on something else"
    if not reason and len(answer) > LONGEST:
        reason = f"has {len(answer)} bytes, more than {LONGEST}"
    if reason:
        msg = f"the time stamp of {host_of(url)} {reason}: set BTCML_TSA_URL to an authority that follows RFC 3161"
        raise NotReadyError(msg)
    return stamp, certificates


def _ask(url: str, note: str, *, with_certificates: bool) -> tuple[TimeStampRequest, bytes]:
    client = _client()
    request = client.TimestampRequestBuilder(
        note.encode(), client.HashAlgorithm.SHA256, cert_req=with_certificates
    ).build()
    query = ("application/timestamp-query", request.as_bytes())
    try:
        reply = fetch_reply(new_session(), url, timeout=_TIMEOUT_S, post=query)
        if reply.status == _OK:
            return request, reply.body[:_LARGEST]
        reason = f"the time-stamp authority {host_of(url)} answered with status {reply.status}"
    except MarketError as error:
        reason = f"the time-stamp authority {error}"
    msg = f"{reason}: checkpoints wait until it does; if that lasts, change BTCML_TSA_URL"
    raise NotReadyError(msg)


def _client() -> Any:
    try:
        import rfc3161_client  # noqa: PLC0415 - of an extra
    except ImportError as error:
        msg = "time stamps need btcml[record]: pip install 'btcml[record]'"
        raise UsageError(msg) from error
    return rfc3161_client


def _sent(answer: bytes) -> list[Certificate]:
    """Certificates in an answer; the library refuses those that are not sorted, as openssl sends them."""
    from cryptography import x509  # noqa: PLC0415 - of an extra

    (sent,) = [content for tag, content in record.signed_parts(answer) if tag == _CERTIFICATES]
    bodies = [body for _, body in record.der_parts(sent)]
    sizes = [len(body).to_bytes((len(body).bit_length() + 7) // 8, "big") for body in bodies]
    ders = [bytes([0x30, 0x80 | len(size)]) + size + body for size, body in zip(sizes, bodies, strict=True)]
    return [x509.load_der_x509_certificate(der) for der in ders]


def _signers(answer: bytes, certificates: Iterable[Certificate]) -> list[Certificate]:
    """Certificate by which an answer says to be signed; none where it is not known, or there are several."""
    signed = _client().decode_timestamp_response(answer).signed_data
    names = [(one.issuer, one.serial_number) for one in signed.signer_infos]
    return [one for one in certificates if [(one.issuer, one.serial_number)] == names]


# ---- the check ----
def check_stamp(
    stamp: Stamp,
    certificates: Sequence[Certificate],
    roots: Iterable[Certificate],
    request: TimeStampRequest | None = None,
) -> str:
    """Check the authority's signature of a stamp.

    Parameters
    ----------
    certificates
        Those of the authority; none of them is trusted.
    roots
        Certificates that are trusted.
    request
        What was asked, where the answer is new.

    Returns
    -------
    str
        Why the stamp does not hold; empty where it does.
    """
    client = _client()
    if any(tag == _CERTIFICATES for tag, _ in record.signed_parts(stamp.response)):
        return "does not hold: it brings certificates of its own"
    try:  # the library reads some parts only when they are asked for
        answer, signers = client.decode_timestamp_response(stamp.response), _signers(stamp.response, certificates)
    except (ValueError, LookupError) as error:
        return _broken(error)
    issuers = {one.issuer for one in certificates}
    anchors = [one for one in roots if one.subject in issuers]
    # The library trusts each certificate that it is given: whether a trusted root is above the signer is found here.
    if not signers or not _leads_up(signers[0], certificates, anchors):
        return record.NOT_TRUSTED
    between = [one for one in certificates if one.issuer != one.subject and one != signers[0]]
    nonce = request.nonce if request else None
    verifier = client.VerifierBuilder(None, signers[0], between, anchors, nonce).build()
    try:
        verifier.verify(answer, stamp.digest)
    except (client.VerificationError, ValueError, LookupError) as error:
        return _broken(error)
    return ""


def _broken(error: Exception) -> str:
    """Why a stamp does not hold, without the stack of the library's own library."""
    if isinstance(error, LookupError):
        return "does not hold: it cannot be read"
    said = re.split(r":? (?:ErrorStack|ParseError|\(got)", str(error))[0]
    return f"does not hold: {said}"


def _leads_up(signer: Certificate, certificates: Sequence[Certificate], roots: Sequence[Certificate]) -> bool:
    """Whether a chain of authorities' certificates leads from a certificate to a root."""
    chain = [signer]
    for one in chain:  # which grows
        if any(_is_issued(one, root) for root in roots):
            return True
        chain += [other for other in certificates if other not in chain and _is_issued(one, other)]
    return False


def _is_issued(one: Certificate, by: Certificate) -> bool:
    from cryptography import exceptions, x509  # noqa: PLC0415 - of an extra

    try:
        one.verify_directly_issued_by(by)
        return by.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, exceptions.InvalidSignature, x509.ExtensionNotFound):
        return False


def stamp_checker(read: Read, authority: Path | None) -> CheckStamp:
    """Check of the stamps of a record, by the library.

    Parameters
    ----------
    read
        Gives the files of the record.
    authority
        Root certificates that are trusted; None: those of this machine.

    Raises
    ------
    UsageError
        If the extra is not installed, or the file has no certificates.
    """
    certificates, roots = load_certificates(read), trusted_roots(authority)
    return lambda stamp: check_stamp(stamp, certificates, roots)


def load_certificates(read: Read) -> list[Certificate]:
    """Certificates of the authority in a record; none where nothing has been stamped.

    Raises
    ------
    UsageError
        If the extra is not installed.
    """
    _client()
    from cryptography import x509  # noqa: PLC0415 - of an extra

    try:
        return x509.load_pem_x509_certificates(read("certificates.pem"))
    except (OSError, ValueError):
        return []


def save_certificates(folder: Path, certificates: Iterable[Certificate]) -> None:
    """Write the authority's certificates into a record."""
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - of an extra

    payload = b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
    path = folder / "certificates.pem"
    if not path.exists() or path.read_bytes() != payload:
        write_bytes(path, payload)


@lru_cache(4)
def trusted_roots(authority: Path | None = None) -> tuple[Certificate, ...]:
    """Root certificates in a file, or those that this machine trusts.

    Raises
    ------
    UsageError
        If the file has none, or the extra is not installed.
    """
    _client()
    from cryptography import x509  # noqa: PLC0415 - of an extra

    path = authority or Path(ssl.get_default_verify_paths().cafile or DEFAULT_CA_BUNDLE_PATH)
    found = []
    with contextlib.suppress(OSError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some old roots have a serial number that is not positive
        for part in path.read_bytes().split(_END)[:-1]:
            with contextlib.suppress(ValueError):
                found += x509.load_pem_x509_certificates(part + _END)
    if not found:
        msg = f"expected certificates in PEM in {path}, found none: give the root certificate of the authority"
        raise UsageError(msg)
    return tuple(found)


_END = b"-----END CERTIFICATE-----"
