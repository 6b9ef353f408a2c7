"""The exception that handlers and everything below them raise to answer with an error."""


class Problem(Exception):
    """An error response. *detail* names the parameter, its value and the allowed values."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
