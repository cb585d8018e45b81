"""A real service, a real store and the proxy between them: what the end-to-end fault tests hurt."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bank import Bank, bank_rules
from tcp_proxy import TcpProxy

from service_process import ServiceProcess
from valkey_server import ValkeyServer

USER, PASSWORD = "service", "good"  # of the store; its rights can be taken away without taking the test's own


@dataclass
class Network:
    """The three, and how many callers there were."""

    server: ValkeyServer
    proxy: TcpProxy
    service: ServiceProcess
    banks: int = 0

    def bank(self, **more: int) -> Bank:
        """A new caller, with customers of its own."""
        self.banks += 1
        return Bank(self.service.url, f"{self.banks}-", **more)

    def commits(self, request_id: str) -> int:
        """How often the decision on a request was sent to the store; its frame tells the request once in its answer."""
        return bytes(self.proxy.requests).count(f',"request_id":"{request_id}"'.encode())

    def heal(self) -> None:
        """Everything as it was at the start."""
        self.server.thaw()
        self.proxy.heal()
        self.grant()
        with self.server.client() as client:
            client.config_set("maxclients", 1_000)
        self.service.wait_ready()

    def stop_service(self) -> None:
        """Freeze the service."""
        for pid in self.service.worker_pids():
            os.kill(pid, signal.SIGSTOP)

    def continue_service(self) -> None:
        """Let it go on."""
        for pid in self.service.worker_pids():
            os.kill(pid, signal.SIGCONT)

    def grant(self, password: str = PASSWORD, *rights: str) -> None:
        """Give the service's user this password and these rights, by default all."""
        with self.server.client() as client:
            given = rights or ("+@all",)
            client.execute_command(
                "ACL", "SETUSER", USER, "reset", "on", f">{password}", "allkeys", "allchannels", *given
            )


def started_network(directory: Path, workers: int = 1) -> Iterator[Network]:
    """One, started; stopped at the end."""
    server = ValkeyServer(directory / "valkey").start()
    (directory / "models").mkdir()
    try:
        with TcpProxy(server.port, keep_requests=True) as proxy:
            service = ServiceProcess(
                directory / "service", redis_url=f"redis://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}/0",
                rules=bank_rules(directory / "rules"), models=directory / "models", workers=workers,
            )  # fmt: skip
            network = Network(server, proxy, service)
            network.grant()
            try:
                service.start()
                yield network
            finally:
                service.stop()
    finally:
        server.stop()
