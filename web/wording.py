"""Words that the page, the report and the terminal have in common. Imports no web framework."""

import unicodedata

# What to do about each stored error code; the message itself says what happened.
MENDING = {
    "empty": "The file holds nothing. Fetch the picture again from where it came from.",
    "unreadable": "Check that the file still exists and may be read by this user, then audit it again.",
    "unsupported_format": "Leave it out if it is no picture; otherwise save it as JPEG, PNG or WebP and audit that.",
    "too_large": "If the picture is trusted, raise the limit named in the message. A smaller copy loses traces of manipulation.",
    "decode_failed": "The file is damaged or incomplete. Fetch the picture again from where it came from.",
    "output_failed": "Check the output folder's path, its permissions and the length of names, then audit the picture again.",
    "invalid_message": "The sender and this worker speak different versions. Upgrade both, then submit the picture again.",
    "blob_missing": "The stored copy is gone. Submit the picture again.",
    "blob_corrupt": "The stored copy is damaged. Submit the picture again.",
    "internal_error": "A defect of Tamperwatch, not of the picture. Please report it with this message.",
    "store_unavailable": "The results database was away. See 'tamperwatch doctor', then audit the picture again.",
    "blob_store_unavailable": "The picture store was away. See 'tamperwatch doctor', then audit the picture again.",
    "disk_full": "Make room on the disk, then audit the picture again.",
    "broker_unavailable": "The queue was away. See 'tamperwatch doctor', then audit the picture again.",
    "url_refused": "This address may not be fetched. Submit the picture itself, or allow its host (TAMPERWATCH_FETCH__*).",
    "url_gone": "The picture's server does not hand it out. Ask its owner, or submit the picture itself.",
    "url_unreachable": "The picture's server did not answer well. Try again later, or submit the picture itself.",
    "device_memory_full": "The device had no room for a single picture. See what else uses it, then audit the picture again.",
    "model_timeout": "The machine was too busy or the model is stuck. Audit the picture again, with fewer workers if it recurs.",
    "model_failed": "The model failed on this picture alone. Audit it again; if it recurs, please report it with this message.",
    "worker_lost": "The worker died while it held this picture, often for lack of memory. Audit it again, alone.",
}
MENDING_UNKNOWN = "Audit the picture again; if it recurs, see 'tamperwatch doctor'."

NETWORK_NAMES = {"facebook": "Facebook", "wechat": "WeChat", "weibo": "Weibo", "whatsapp": "WhatsApp"}
_LIKELIHOODS = (
    (0.9, "very likely manipulated"),
    (0.7, "likely manipulated"),
    (0.3, "could be either"),
    (0.1, "unlikely to be manipulated"),
    (0.0, "very unlikely to be manipulated"),
)


def mending(code: str) -> str:
    """What a person can do about a stored error code."""
    return MENDING.get(code, MENDING_UNKNOWN)


def shown(text: str) -> str:
    """Text from outside with what would deceive the eye replaced: control characters and changes of writing direction."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _deceives(character) else character for character in text)


def score_text(score: float | None) -> str:
    """A probability with two decimals that never claims certainty by rounding."""
    if score is None:
        return ""
    return ">\N{NO-BREAK SPACE}0.99" if score >= 0.995 else "<\N{NO-BREAK SPACE}0.01" if score < 0.005 else f"{score:.2f}"


def likelihood(score: float | None) -> str:
    """A probability in words."""
    return "" if score is None else next(words for least, words in _LIKELIHOODS if score >= least)


def duration_text(milliseconds: float | None) -> str:
    """A latency, in ms or s."""
    if milliseconds is None:
        return ""
    whole_ms, seconds = f"{milliseconds:.0f}\N{NO-BREAK SPACE}ms", f"{milliseconds / 1000:.1f}\N{NO-BREAK SPACE}s"
    return whole_ms if milliseconds < 1000 else seconds


def _deceives(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF"),
        *("LRI", "RLI", "FSI", "PDI"),
    )
