"""The description of the API, made of the code that serves it."""

from server.app import create_app
from server.schemas import openapi
from server.settings import ServerSettings


def test_every_operation_of_the_api_is_described() -> None:
    routes = create_app(ServerSettings()).routes
    described = openapi.document(routes, version="1")["paths"]
    served = {
        (route.path, method.lower())
        for route in routes
        if route.path.startswith("/api/")
        for method in route.methods - {"HEAD"}
    }
    missing = [f"{method} {path}" for path, method in served if method not in described.get(path, {})]
    assert missing == []
    assert all(about["summary"] for operations in described.values() for about in operations.values())
