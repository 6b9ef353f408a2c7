"""Wording shared by the refusals of decoders."""


def decoder_message(exc: Exception) -> str:
    """Return the message of a decoder's exception as the end of a sentence."""
    text = exc.args[0].decode(errors="replace") if exc.args and isinstance(exc.args[0], bytes) else str(exc)
    return " ".join(text.split())[:200].rstrip(".")
