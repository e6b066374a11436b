"""A Redis server for tests, until the shared one is there."""
from __future__ import annotations
import os, shutil, signal, socket, subprocess, tempfile, time
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class RedisServer:
    def __init__(self, persistent=False):
        self.folder = tempfile.mkdtemp()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0)); self.port = s.getsockname()[1]
        self.persistent = persistent
        self.start()

    def start(self):
        self.process = subprocess.Popen(["redis-server", "--port", str(self.port), "--dir", self.folder, "--save", "",
            "--appendonly", "yes" if self.persistent else "no", "--appendfsync", "always", "--daemonize", "no", "--enable-debug-command", "yes"], stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                if self.client().ping():
                    return
            except redis.exceptions.ConnectionError:
                time.sleep(0.02)
        raise RuntimeError

    @property
    def url(self): return f"redis://127.0.0.1:{self.port}"
    def client(self): return redis.Redis(port=self.port, protocol=2, socket_timeout=5, retry=Retry(NoBackoff(), 0))
    def kill(self): self.process.kill(); self.process.wait()
    def restart(self): self.kill(); self.start()
    def pause(self): self.process.send_signal(signal.SIGSTOP)
    def resume(self): self.process.send_signal(signal.SIGCONT)
    def close(self):
        self.process.send_signal(signal.SIGCONT); self.kill(); shutil.rmtree(self.folder)


class Address:
    def __init__(self, port, timeout=2.0): self.port, self.timeout = port, timeout
    def connect(self, key):
        return redis.Redis(port=self.port, protocol=2, socket_timeout=self.timeout, socket_connect_timeout=self.timeout, retry=Retry(NoBackoff(), 0))
