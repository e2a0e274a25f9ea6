"""The application: routes, static files, and one shape for all that is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from harness.serve import schemas
from harness.serve.document import described
from harness.serve.guard import Guard
from harness.serve.models import Served
from harness.serve.reading import sentence_of
from harness.serve.routes import router
from harness.serve.service import Service
from harness.serve.work import Worker

STATIC = Path(__file__).parent / "static"
PAGE = "index.html"
KINDS: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
"""What static files are, whatever the machine's own table says."""
BODIES = (
    schemas.PredictBody, schemas.AttackBody, schemas.ExplainBody, schemas.SmallestBody,
)  # fmt: skip
FIELDS = {field for body in BODIES for field in body.model_fields}


def application(
    served: Served, worker: Worker, hosts: Collection[str] | None = None, static: Path = STATIC
) -> Guard:
    """The ASGI application that serves models, their page, and ``/openapi.json``.

    Args:
        served: The models.
        worker: The thread that asks them.
        hosts: Names by which the server may be asked; any if None.
        static: The folder of the page; what lies in it when the server starts is served.
    """
    app = FastAPI(
        title="robustness-harness",
        summary="Image classifiers, attacked and explained image by image.",
        version=version("robustness-harness"),
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = Service(served, worker)
    app.include_router(router)
    _add_page(app, static)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    plain = app.openapi

    def documented() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = described(plain(), served)
        return app.openapi_schema

    app.openapi = documented  # type: ignore[method-assign]  # as FastAPI's own guide does
    return Guard(app, hosts)


def _add_page(app: FastAPI, static: Path) -> None:
    """The page at ``/``, and what lies beside it under ``/static/``, each by its own name.

    Names are looked up among the files that were found, so that no request makes a path.
    """
    files = {path.relative_to(static).as_posix(): path
             for path in sorted(static.rglob("*")) if path.suffix in KINDS}  # fmt: skip

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return _file(files, PAGE)

    @app.api_route("/static/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def beside(name: str) -> Response:
        return _file(files, name)


def _file(files: Mapping[str, Path], name: str) -> Response:
    if name not in files:
        raise HTTPException(404)
    return FileResponse(files[name], media_type=KINDS[files[name].suffix])


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    findings = error.errors() if isinstance(error, RequestValidationError) else []
    return _problem(422, sentence_of(findings, sorted(FIELDS)))


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, StarletteHTTPException):
        return _problem(500, "something went wrong inside of the server")
    headers, said = error.headers, str(error.detail)
    if said == HTTPStatus(error.status_code).phrase:  # Starlette's own words
        said = {
            404: "there is nothing at this address; GET /openapi.json lists what there is",
            405: f"this address does not take {request.method}; see GET /openapi.json",
        }.get(error.status_code, said.lower())
    return _problem(error.status_code, said, headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return _problem(500, "something went wrong inside of the server")


def _problem(status: int, said: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": said}, status, headers)
