"""optuna-dashboard on one storage: to several browsers at once, and as wide as the window.

A study with hundreds of weights and attributes makes the dashboard's trial page as wide as its
longest line (9,300 pixels with version 0.21), so a few style rules are added to its one
HTML page. Everything else is the dashboard's own.
"""

from __future__ import annotations

import socketserver
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna

from climb_opt.extras import need

# `main` is a flex item, which grows with its content unless told that it may be narrower. The best
# trial's weights, a paragraph as long as a page for 240 domains, scroll in a box of their own.
STYLE = (
    b"<style>main{min-width:0}"
    b"main p.MuiTypography-body1{white-space:pre-wrap;overflow-wrap:anywhere}"
    b"main .MuiCardContent-root>p.MuiTypography-body1{max-height:9em;overflow:auto}"
    b"</style></head>"
)
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def application(storage: optuna.storages.BaseStorage, store: Any = None) -> Application:
    """The dashboard as a WSGI application.

    Args:
        store: the artifact store of the trials' pictures and tables.

    Raises:
        UserError: optuna-dashboard is not installed.
    """
    wsgi = need("optuna_dashboard", "The dashboard", "climb-opt[dashboard]").wsgi
    return styled(wsgi(storage, artifact_store=store))


def serve(app: Application, *, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serve the dashboard until interrupted, a thread for each request.

    Args:
        port: 0 for any that is free.
        ready: called with the port once browsers may come.

    Raises:
        OSError: the port cannot be used.
    """
    with make_server(host, port, app, _Server, _Quiet) as server:
        ready(server.server_port)
        server.serve_forever()


def styled(app: Application) -> Application:
    """`app`, with `STYLE` in its HTML pages."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        begun: list[Any] = []

        def keep(status: str, headers: list[tuple[str, str]], *rest: Any) -> None:
            begun[:] = [status, headers, *rest]

        body = app(environ, keep)
        status, headers, *rest = begun
        kind = next((value for name, value in headers if name.lower() == "content-type"), "")
        if kind.startswith("text/html"):
            page = b"".join(body).replace(b"</head>", STYLE, 1)
            if hasattr(body, "close"):
                body.close()
            headers = [(n, v) for n, v in headers if n.lower() != "content-length"]
            headers.append(("Content-Length", str(len(page))))
            body = [page]
        start_response(status, headers, *rest)
        return body

    return call


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass  # a line for every poll of every browser helps nobody
