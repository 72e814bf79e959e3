"""Servers on the loopback address that send a video as cameras and websites do, or fail while sending it."""

import contextlib
import http.server
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TS_PACKET = 188


class _Handler(http.server.BaseHTTPRequestHandler):
    """Sends the server's `files` by name. The query selects how: `?unknown_length`, `?half`, `?reset`, `?chunked`,
    `?stall`, and `?fps=N` for a multipart of the files named `JPEG*`."""

    def do_GET(self):
        name, _, how = self.path.lstrip("/").partition("?")
        if how.startswith("fps="):
            return self._send_pictures(float(how.removeprefix("fps=")))
        if name not in self.server.files:
            return self.send_error(404)
        content = self.server.files[name]
        self.send_response(200)
        if how == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif how != "unknown_length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if how == "chunked":
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
        if how in ("half", "reset", "stall"):
            content = content[: len(content) // 2]
        self.wfile.write(content)
        if how == "reset":
            time.sleep(0.2)  # so that the client reads what was sent
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "stall":
            self.server.stalled.wait(30)

    def _send_pictures(self, fps: float):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        for name in sorted(name for name in self.server.files if name.startswith("JPEG")):
            picture = self.server.files[name]
            head = b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
            self.wfile.write(head + picture + b"\r\n")
            time.sleep(1 / fps)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def http_server(files: dict[str, bytes]) -> Iterator[str]:
    """Yields the address of a server of these files, see `_Handler`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files, server.stalled = files, threading.Event()
    with _running(server):
        yield f"http://127.0.0.1:{server.server_port}"
        server.stalled.set()


class _RtspHandler(socketserver.StreamRequestHandler):
    """Sends a transport stream as RTP packets between RTSP replies, `speed` times as fast as it plays."""

    def handle(self):
        while request := self._read_request():
            method, _, headers = request
            extra, body = {}, ""
            if method == "OPTIONS":
                extra = {"Public": "DESCRIBE, SETUP, PLAY, TEARDOWN"}
            elif method == "DESCRIBE":
                extra = {"Content-Type": "application/sdp"}
                body = "v=0\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
            elif method == "SETUP":
                extra = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1", "Session": "1"}
            head = {"CSeq": headers["cseq"], "Content-Length": str(len(body)), **extra}
            lines = ["RTSP/1.0 200 OK", *(f"{name}: {value}" for name, value in head.items()), "", body]
            self.wfile.write("\r\n".join(lines).encode())
            if method == "PLAY":
                self._send_stream()
                return  # the connection closes

    def _read_request(self) -> tuple[str, str, dict[str, str]] | None:
        line = self.rfile.readline().decode().split()
        if not line:
            return None
        headers = {}
        while text := self.rfile.readline().decode().strip():
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        return line[0], line[1], headers

    def _send_stream(self):
        content, size = self.server.content, 7 * TS_PACKET
        began_s, pause_s = time.monotonic(), self.server.duration_s / (len(content) / size)
        for number, at in enumerate(range(0, len(content), size)):
            ticks = round((time.monotonic() - began_s) * 90_000)
            packet = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, ticks & 0xFFFFFFFF, 1) + content[at : at + size]
            try:
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            except OSError:
                return  # the client has closed the connection
            time.sleep(pause_s)


@contextlib.contextmanager
def rtsp_server(path: Path, duration_s: float) -> Iterator[str]:
    """Yields the address of a camera that plays a transport stream within this time, and then disconnects."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _RtspHandler)
    server.content, server.duration_s = path.read_bytes(), duration_s
    with _running(server):
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/stream"


@contextlib.contextmanager
def _running(server: socketserver.TCPServer):
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
