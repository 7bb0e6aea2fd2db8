"""A device for tests: a daemon that speaks adb's transport, behind which real programs run in a sandbox folder.

After AOSP's packages/modules/adb: protocol.txt, SERVICES.TXT and SYNC.TXT. Faults are attributes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import selectors
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

VERSION, MAX_DATA = 0x01000001, 256 * 1024
CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE"
BANNER = b"device::ro.product.name=test;ro.product.model=Test;ro.product.device=test;features=shell_v2,cmd"
MAPPED = ("/data/local/tmp", "/sys/", "/proc/cpuinfo", "/proc/meminfo")


class Unplugged(Exception):
    """The connection ends here."""


class AdbDevice:
    """Listens on `port`. `root` is its file system; programs in `root/bin` come first on its PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unauthorised = False
        self.unplug_at: str | None = None  # part of a command that ends the connection once it has run a little
        self.unplug_push_after: int | None = None  # bytes of a copy to the device
        self.absent_s = 0.0  # how long it stays away then
        self.cut_at: str | None = None  # part of a command whose output ends in the middle, without an exit code
        self.space_bytes: int | None = None
        self.pushed: list[str] = []  # paths, as asked for
        self._back_at = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.serial = f"127.0.0.1:{self.port}"
        self.address = f"adb://{self.serial}"
        self._connections: list[_Connection] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                if time.monotonic() < self._back_at:
                    connection.close()
                    continue
                self._connections.append(_Connection(self, connection))

    def unplug(self) -> None:
        """Cuts every connection and stays away for `absent_s`."""
        self._back_at = time.monotonic() + self.absent_s
        while self._connections:
            self._connections.pop().end()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.unplug()

    def path(self, text: str) -> str:
        """Paths of the device in a text, as paths here."""
        return re.sub("|".join(MAPPED), lambda match: f"{self.root}{match[0]}", text)


class _Connection:
    def __init__(self, device: AdbDevice, sock: socket.socket) -> None:
        self.device, self._socket, self._lock = device, sock, threading.Lock()
        self._input = sock.makefile("rb")
        self._streams: dict[int, _Stream] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        head = struct.pack("<4sIIIII", command, first, second, len(data), sum(data) & 0xFFFFFFFF, magic)
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(head + data)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for stream in list(self._streams.values()):
            stream.close()

    def _read(self, count: int) -> bytes:
        data = self._input.read(count)
        if len(data) < count:
            raise Unplugged
        return data

    def _serve(self) -> None:
        with contextlib.suppress(Unplugged, OSError):
            while True:
                command, first, second, length, _, _ = struct.unpack("<4sIIIII", self._read(24))
                data = self._read(length)
                if command == AUTH or (command == CNXN and self.device.unauthorised):
                    self.send(AUTH, 1, 0, b"0123456789abcdefghij")  # a token to sign; no signature is good enough
                elif command == CNXN:
                    self.send(CNXN, VERSION, MAX_DATA, BANNER)
                elif command == OPEN:
                    number = len(self._streams) + 1
                    self._streams[number] = _Stream(self, number, first, data.rstrip(b"\0").decode())
                elif second in self._streams:
                    self._streams[second].receive(command, data)
        self.end()


class _Stream:
    def __init__(self, connection: _Connection, number: int, remote: int, service: str) -> None:
        self._connection, self._device, self._ids = connection, connection.device, (number, remote)
        self._inbox: queue.Queue[bytes] = queue.Queue()
        self._rest = b""
        self._sent = threading.Semaphore(0)
        self._closed = threading.Event()
        connection.send(OKAY, *self._ids)
        threading.Thread(target=self._run, args=(service,), daemon=True).start()

    def receive(self, command: bytes, data: bytes) -> None:
        if command == WRTE:
            self._inbox.put(data)
            self._connection.send(OKAY, *self._ids)
        elif command == OKAY:
            self._sent.release()
        elif command == CLSE:
            self.close()

    def close(self) -> None:
        self._closed.set()
        self._sent.release()
        self._inbox.put(b"")

    def _write(self, data: bytes) -> None:
        if self._closed.is_set():
            raise Unplugged
        self._connection.send(WRTE, *self._ids, data)
        self._sent.acquire()

    def _read(self, count: int) -> bytes:
        while len(self._rest) < count:
            part = self._inbox.get()
            if not part:
                raise Unplugged
            self._rest += part
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def _run(self, service: str) -> None:
        with contextlib.suppress(Unplugged):
            kind, _, command = service.partition(":")
            if kind.startswith("shell,v2"):
                self._shell(command)
            elif kind == "sync":
                self._sync()
        self._connection.send(CLSE, *self._ids)

    def _shell(self, command: str) -> None:
        device = self._device
        environment = {"PATH": f"{device.root}/bin:{os.environ['PATH']}", "HOME": str(device.root)}
        streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE) | {"stdin": subprocess.DEVNULL}
        words = ["sh", "-c", device.path(command)]
        process = subprocess.Popen(words, env=environment, cwd=device.root, **streams)
        if device.unplug_at and device.unplug_at in command:
            device.unplug_at = None
            time.sleep(0.2)
            device.unplug()
        cut = bool(device.cut_at and device.cut_at in command)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ, 1)
                selector.register(process.stderr, selectors.EVENT_READ, 2)
                while selector.get_map():
                    if self._closed.is_set():
                        raise Unplugged
                    for key, _ in selector.select(0.05):
                        data = os.read(key.fd, 32_000)
                        if not data:
                            selector.unregister(key.fileobj)
                            continue
                        part = data[: len(data) // 2] if cut else data
                        self._write(struct.pack("<BI", key.data, len(part)) + part)
                        if cut:
                            return
            self._write(struct.pack("<BIB", 3, 1, process.wait() & 0xFF))
        finally:
            # As adbd does: the shell hears of it, and what it started may go on.
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)
            process.stdout.close()
            process.stderr.close()
            process.wait()

    def _sync(self) -> None:
        while True:
            command, length = struct.unpack("<4sI", self._read(8))
            if command == b"QUIT":
                return
            asked = self._read(length).decode()
            if command == b"STAT":
                path = Path(self._device.path(asked))
                status = path.stat() if path.exists() else None
                numbers = (status.st_mode, status.st_size, int(status.st_mtime)) if status else (0, 0, 0)
                self._write(struct.pack("<4sIII", b"STAT", *numbers))
            elif command == b"SEND":
                self._receive_file(asked)
            elif command == b"RECV":
                self._send_file(Path(self._device.path(asked)))

    def _receive_file(self, asked: str) -> None:
        device, (name, mode) = self._device, asked.rsplit(",", 1)
        path, received, full = Path(device.path(name)), 0, False
        device.pushed.append(name)
        with open(path, "wb") as file:
            while not (head := self._read(8)).startswith(b"DONE"):
                data = self._read(int.from_bytes(head[4:], "little"))
                received += len(data)
                if device.unplug_push_after is not None and received > device.unplug_push_after:
                    device.unplug_push_after = None
                    device.unplug()
                if not full and device.space_bytes is not None and received > device.space_bytes:
                    full = True
                    self._fail("couldn't write: No space left on device")
                if not full:
                    file.write(data)
        if full:
            raise Unplugged  # as adbd: what still came was thrown away, then the service ends
        path.chmod(int(mode) & 0o777)
        self._write(struct.pack("<4sI", b"OKAY", 0))

    def _send_file(self, path: Path) -> None:
        if not path.is_file():
            self._fail("open failed: No such file or directory")
            return
        data = path.read_bytes()
        for start in range(0, len(data), 60_000):
            part = data[start : start + 60_000]
            self._write(struct.pack("<4sI", b"DATA", len(part)) + part)
        self._write(struct.pack("<4sI", b"DONE", 0))

    def _fail(self, reason: str) -> None:
        self._write(struct.pack("<4sI", b"FAIL", len(reason)) + reason.encode())
