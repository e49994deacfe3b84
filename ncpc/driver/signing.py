"""A build signed: the SHA-256 of every file in one list, and a minisign signature of that list beside it.

Both files are those of other tools: ``sha256sum -c SHA256SUMS`` and ``minisign -Vm SHA256SUMS -p KEY.pub`` read them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncpc.driver import builds
from ncpc.driver.again import SIGNATURE, SUMS, Differs, Original, listed
from ncpc.errors import BadInput, MissingTool
from ncpc.system.files import write_all_atomically

if TYPE_CHECKING:
    from minisign import PublicKey, SecretKey


def sign_build(folder: str | Path, key: str | Path, password: Callable[[], str]) -> Path:
    """Sign the build in ``folder`` with the secret key in the file ``key``; the signature's path.

    ``password`` is asked for where the key is encrypted. Raises BadInput for a key that is none or a wrong password,
    MissingTool without py-minisign, an error of exit code 1 for a build that is not what its own report lists.
    """
    folder = Path(folder)
    original = Original(folder, builds.read_report(folder), "")
    wrong = tuple(listed(original).values())
    if wrong:
        raise Differs((f"{folder}: not signed, {wrong[0]}", *wrong[1:]))
    secret, text = _secret(Path(key), password), sums(original)
    comment = f"ncpc build of {original.report['policy']['name']} for {original.report['target']['name']}"
    with secret:
        signature = secret.sign(text, trusted_comment="".join(c for c in comment if c.isprintable()))
    write_all_atomically({folder / SUMS: text, folder / SIGNATURE: bytes(signature) + b"\n"})
    return folder / SIGNATURE


def require_signed(folder: Path, key: str | Path) -> str:
    """The signature's trusted comment, once it is that of the public key ``key`` (a file, or its text RW...) and of
    every file in ``folder`` as it is now. Raises Differs, BadInput or MissingTool.
    """
    public, library = _public(key), _library()
    original = Original(folder, {}, "")
    text, signature = original.content(SUMS), original.content(SIGNATURE)
    if text is None or signature is None:
        raise Differs((f"{folder}: not signed, it has no {SUMS if text is None else SIGNATURE}; see 'ncpc sign'",))
    try:
        found = library.Signature.from_bytes(signature)
        public.verify(text, found)
    except Exception as error:  # a damaged signature makes the library raise several kinds
        raise Differs((f"{folder}: {SIGNATURE} is not the signature of {SUMS} by this key ({error})",)) from None
    if odd := _odd(original):
        raise Differs(tuple(f"{name!r} was not signed: it is no regular file with a plain name" for name in odd))
    if sums(original) != text:
        raise Differs(_changes(original, text))
    return str(found.trusted_comment)


def sums(original: Original) -> bytes:
    """SHA256SUMS of every file as it is now: hash, two spaces, name; sorted by name. Raises BadInput."""
    for name in _odd(original):
        raise BadInput(f"{original.folder}: {name!r} is no regular file with a plain name; it cannot be signed")
    return "".join(f"{builds.sha256(original.content(name) or b'')}  {name}\n" for name in _signable(original)).encode()


def _signable(original: Original) -> list[str]:
    return [name for name in original.names() if name not in (SUMS, SIGNATURE)]


def _odd(original: Original) -> list[str]:
    """What no list of hashes can hold: links, pipes, names with line breaks."""
    return [name for name in _signable(original)
            if original.content(name) is None or not name.isprintable() or "\\" in name]


def _changes(original: Original, text: bytes) -> tuple[str, ...]:
    signed, now = ({line[66:]: line[:64] for line in part.decode().splitlines()} for part in (text, sums(original)))
    return tuple(f"{name} is not as it was signed" for name in sorted(set(signed) | set(now))
                 if signed.get(name) != now.get(name)) or (f"{SUMS} is not as it was signed",)


def _secret(path: Path, password: Callable[[], str]) -> SecretKey:
    library = _library()
    try:
        secret: SecretKey = library.SecretKey.from_bytes(path.read_bytes())
        if secret.is_encrypted():
            secret.decrypt(password())
    except (OSError, library.Error, ValueError) as error:
        raise BadInput(f"{path}: no secret key of minisign ({error}); make one with 'minisign -G'") from None
    return secret


def _public(key: str | Path) -> PublicKey:
    library, path = _library(), Path(key)
    try:
        found: PublicKey = (library.PublicKey.from_base64(str(key)) if str(key).startswith("RW") and not path.exists()
                            else library.PublicKey.from_bytes(path.read_bytes()))
    except (OSError, library.Error, ValueError) as error:
        raise BadInput(f"{key}: no public key of minisign ({error}); give the .pub file that 'minisign -G' wrote"
                       ) from None
    return found


def _library() -> Any:
    try:
        import minisign
    except ImportError:
        raise MissingTool("signatures need py-minisign: pip install 'ncpc[sign]'") from None
    return minisign
