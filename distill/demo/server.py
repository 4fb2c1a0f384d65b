"""The page and its requests, over HTTP on this machine."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from distill.demo.session import VIEWS, Session, generated
from distill.inference.images import UNREADABLE
from distill.inference.segmenter import settle_thresholds
from distill.inference.thresholds import Thresholds
from distill.runtime.issues import first_line

LARGEST = 64 << 20  # most bytes of an image
MOST_BYTES = 256 << 20  # of all images that are received or wait for the network
MOST_WAITING = 64  # requests that wait for a part of those bytes
WAIT_SECONDS = 30.0  # for which they wait at most
BODY_SECONDS = 120.0  # in which an image must have arrived
DRAIN_SECONDS = 5.0  # for reading the rest of a refused image, so that its sender reads the answer
CHUNK = 1 << 16
BUSY = "too many images are being sent at once; try again in a moment"
FIGURES = "X-Figures"  # header of a frame's answer: its figures as JSON
TYPES = {"jpeg": "image/jpeg", "png": "image/png"}
POLICY = (  # with it, a browser loads from and sends to this server only
    "default-src 'none'; img-src 'self' data:; media-src blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

logger = logging.getLogger("bandpass")


class Answer(NamedTuple):
    """A body, its type, and further headers."""

    body: bytes
    kind: str
    headers: Mapping[str, str] = {}


class RefusedError(Exception):
    """An answer with a status other than 200, and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Budget:
    """A number of bytes that requests share: a request waits until its bytes are free, or is refused."""

    def __init__(self, count: int) -> None:
        self.free, self.waiting, self.changed = count, 0, threading.Condition()

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Holds `count` bytes.

        Raises:
            RefusedError: too many wait already, or the bytes were not free in time.
        """
        with self.changed:
            if self.waiting >= MOST_WAITING:
                raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, BUSY)
            self.waiting += 1
            try:
                if not self.changed.wait_for(lambda: count <= self.free, timeout=WAIT_SECONDS):
                    raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, BUSY)
            finally:
                self.waiting -= 1
            self.free -= count
        try:
            yield
        finally:
            with self.changed:
                self.free += count
                self.changed.notify_all()


class Server(ThreadingHTTPServer):
    """Serves one session."""

    daemon_threads = True
    request_queue_size = 128  # connections that wait to be accepted

    def __init__(self, session: Session, *, host: str, port: int) -> None:
        self.session, self.local, self.budget = session, is_loopback(host), Budget(MOST_BYTES)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the library's signature
        """Keeps what a browser breaks off from being printed as a trace."""
        del request
        logger.debug("a request of %s failed", client_address, exc_info=True)

    @property
    def url(self) -> str:
        """The address of the page."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if self.address_family == socket.AF_INET6 else f"http://{host!s}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a server bound to this host is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Handler(BaseHTTPRequestHandler):
    """GET /, /student.json, /examples/N, /generated/N, /images/ID/VIEW, /images/ID/regions; POST /images, /frames."""

    server: Server
    server_version, sys_version = "Bandpass", ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds without a byte after which a connection, and its thread, are given up

    def do_GET(self) -> None:
        """Answers with the page, a picture or figures."""
        self.answer(self.get)

    def do_POST(self) -> None:
        """Takes an image."""
        self.answer(self.post)

    def answer(self, work: Any) -> None:  # noqa: ANN401
        """Sends the `Answer` that `work` returns, or the sentence of its refusal."""
        try:
            self.require_own_name()
            answer = work(*self.words())
            status = HTTPStatus.OK
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            status = error.status if isinstance(error, RefusedError) else HTTPStatus.INTERNAL_SERVER_ERROR
            answer = as_json({"error": first_line(error)})
            self.close_connection = True  # what was sent to a refused request may not have been read
        self.send_response(status)
        headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), **answer.headers}
        headers |= {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        headers |= {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
        if self.close_connection and self.command == "POST":
            self.drain()

    def drain(self) -> None:
        """Reads what a refused request still sends: closing the connection earlier would lose the answer."""
        until = time.monotonic() + DRAIN_SECONDS
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(DRAIN_SECONDS)
            while time.monotonic() < until and self.rfile.read1(CHUNK):
                pass

    def words(self) -> tuple[list[str], dict[str, str]]:
        """The path's parts and the query of the request."""
        address = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        return [part for part in address.path.split("/") if part], query

    def require_own_name(self) -> None:
        """Refuses requests of other web pages, under their own host name (which may lead here) or under ours."""
        place = self.headers.get("Host", "")
        try:
            name = urlsplit(f"//{place}").hostname or ""
        except ValueError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"{place!r} is not a host name") from error
        if self.server.local and not is_loopback(name):
            raise RefusedError(HTTPStatus.FORBIDDEN, f"this server answers to localhost, not to {name!r}")
        origin = self.headers.get("Origin")  # browsers send it, correctly, with every POST of a page
        if origin is not None and origin.partition("://")[2] != place:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"this server answers to its own page, not to one of {origin}")

    def get(self, parts: list[str], query: dict[str, str]) -> Answer:
        """The body and type of a path."""
        session = self.server.session
        try:
            if not parts:
                page = files("distill.demo").joinpath("page.html").read_bytes()
                return Answer(page, "text/html; charset=utf-8")
            if parts == ["student.json"]:
                return as_json(session.student())
            if parts[0] == "examples":
                return Answer(session.examples[int(parts[1])].read_bytes(), TYPES["png"])
            if parts[0] == "generated":
                return Answer(generated(int(parts[1])), TYPES["png"])
            if parts[0] == "images" and parts[2] == "regions":
                return as_json(session.regions(parts[1], thresholds=thresholds_of(query, session)))
            if parts[0] == "images":
                drawn = session.draw(parts[1], parts[2], thresholds=thresholds_of(query, session))
                return Answer(drawn, TYPES[VIEWS[parts[2]]])
        except (KeyError, IndexError, ValueError) as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, "this does not exist here, or no longer") from error
        raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def post(self, parts: list[str], query: dict[str, str]) -> Answer:
        """Segments the image in the request's body: for later requests, or as a frame, answered by its overlay."""
        if parts not in (["images"], ["frames"]):
            raise RefusedError(HTTPStatus.NOT_FOUND, "send images to /images, and frames of a film to /frames")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "expected a picture with its length (Content-Length)")
        if int(length) > LARGEST:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a picture of at most {LARGEST >> 20} MB")
        session, flips = self.server.session, query.get("flips") == "true"
        with self.server.budget.take(int(length)):
            data = self.receive(int(length))
            try:
                if parts == ["images"]:
                    return as_json(session.segment(data, flips=flips))
                overlay, figures = session.frame(data, thresholds=thresholds_of(query, session), flips=flips)
                return Answer(overlay, TYPES["jpeg"], {FIGURES: json.dumps(figures)})
            except UNREADABLE as error:
                sentence = f"this cannot be read: {first_line(error)}"
                raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, sentence) from error

    def receive(self, length: int) -> bytearray:
        """The body of a request.

        Raises:
            RefusedError: it did not arrive in time.
        """
        data, until = bytearray(), time.monotonic() + BODY_SECONDS
        while len(data) < length and (part := self.rfile.read1(min(CHUNK, length - len(data)))):
            data += part
            if time.monotonic() > until:
                raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, "the image took too long to arrive; send it again")
        return data

    def log_message(self, format: str, *values: Any) -> None:  # noqa: ANN401 - the library's signature
        """Keeps every request from being printed."""
        logger.debug(format, *values)


def thresholds_of(query: dict[str, str], session: Session) -> Thresholds:
    """The thresholds of a request, or the student's own; several classes have none.

    Raises:
        RefusedError: one is not a probability.
    """
    names = ("threshold", "region_threshold") if session.segmenter.classes == 1 else ()
    try:
        return settle_thresholds(session.segmenter, *(float(query[name]) if name in query else None for name in names))
    except ValueError as error:
        asked = " and ".join(f"{name}={query[name]}" for name in names if name in query)
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, f"expected probabilities above 0 and at most 1, got {asked}"
        ) from error


def as_json(value: Any) -> Answer:  # noqa: ANN401
    """A value as an answer."""
    return Answer(json.dumps(value, ensure_ascii=False).encode("utf-8"), "application/json")
