"""The fixtures, in a pytest of their own, as in a user's project."""

from __future__ import annotations

import configparser
import importlib
import os
import pathlib
import subprocess
import sys
import textwrap

from finx_sync import StreamManager
from finx_sync.sandbox import Sandbox
from finx_sync.testing import Cut, FaultProxy
from finx_sync.testing.plugin import CONTRACT, PAIR

ROOT = pathlib.Path(__file__).parents[2]


def run_pytest(tmp_path: pathlib.Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a test module by itself, with no plugin but ours: an installed one may be another version."""
    (tmp_path / "test_bot.py").write_text(textwrap.dedent(code))
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "finx_sync.testing.plugin", "-p", "no:cacheprovider"),
            *("-q", "-W", "error", "--rootdir", str(tmp_path), *options, "test_bot.py"),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
    )


def test_fixtures_run_a_bot_through_faults(tmp_path: pathlib.Path) -> None:
    """A bot's author would have nothing to test with."""
    done = run_pytest(
        tmp_path,
        """
        import pytest
        from finx_sync import StreamManager
        from finx_sync.testing import Answer, Reset

        @pytest.fixture
        def finx_sandbox_options():
            return {"contract_interval": 0.005, "spot_interval": 0.005}

        def test_stream(finx_stream, fault_proxy):
            assert len(finx_stream.take(3, timeout=10)) == 3
            assert fault_proxy.inject(Reset()).wait(5)
            finx_stream.wait_for(lambda tick: finx_stream.stats().reconnects == 1, timeout=10)

        def test_bots_own_stream(finx_environment, finx_sandbox):
            stream = StreamManager()
            stream.subscribe_spot("BTC:USDC")
            with stream:
                assert finx_sandbox.wait_for_subscribers("BTC:USDC")
                assert stream.take(2, timeout=10)
        """,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_stream_comes_back_with_both_subscriptions(finx_stream: StreamManager, fault_proxy: FaultProxy) -> None:
    """The ready-made stream would not be fit for tests."""
    assert finx_stream.is_connected
    assert fault_proxy.inject(Cut()).wait(10)
    for name in (CONTRACT, PAIR):
        finx_stream.wait_for(lambda tick, name=name: tick.name == name and fault_proxy.accepted == 2, timeout=10)


def test_a_bots_own_stream_finds_the_proxy(finx_environment: str, finx_sandbox: Sandbox) -> None:
    """A bot would have to be changed to be tested."""
    with StreamManager() as stream:
        stream.subscribe_spot(PAIR)
        assert finx_sandbox.wait_for_subscribers(PAIR)
        assert stream.take(1, timeout=10)[0].name == PAIR


def test_the_seed_comes_from_the_command_line(tmp_path: pathlib.Path) -> None:
    """A failing run could not be repeated."""
    code = """
        from finx_sync.testing import Corrupt

        def test_seed(fault_proxy, finx_stream, request):
            injection = fault_proxy.inject(Corrupt("json"))
            assert injection.wait(10)
            print("SEED", request.config.getoption("--finx-seed"))
    """
    done = run_pytest(tmp_path, code, "-s", "--finx-seed", "7")
    assert "SEED 7" in done.stdout, done.stdout + done.stderr
    assert "SEED 0" in run_pytest(tmp_path, code, "-s").stdout


def test_fixtures_are_listed_with_their_descriptions(tmp_path: pathlib.Path) -> None:
    """`pytest --fixtures` would not tell what there is."""
    done = run_pytest(tmp_path, "", "--fixtures")
    for name in ("finx_sandbox", "fault_proxy", "finx_stream", "finx_environment"):
        assert f"\n{name} -- " in done.stdout, done.stdout


def test_pytest_finds_the_plugin_by_itself(tmp_path: pathlib.Path) -> None:
    """A user would have to name the plugin in every project."""
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=200,
        check=True,
    )
    parser = configparser.ConfigParser()
    parser.read(tmp_path / "finx_sync.egg-info" / "entry_points.txt")
    (module,) = parser["pytest11"].values()
    assert hasattr(importlib.import_module(module), "finx_stream")


def test_the_proxy_needs_no_pytest_and_the_plugin_no_server() -> None:
    """A program that uses the proxy would need pytest, and every pytest run would load the sandbox."""
    program = """
        import sys
        sys.modules["pytest"] = None
        from finx_sync.testing import FaultProxy
        del sys.modules["pytest"]
        import finx_sync.testing.plugin
        print([name for name in ("aiohttp", "finx_sync.sandbox") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_an_unused_fixture_costs_nothing(tmp_path: pathlib.Path) -> None:
    """Other tests of a user's project would start servers."""
    done = run_pytest(
        tmp_path,
        """
        import threading

        def test_nothing_runs():
            assert not [one for one in threading.enumerate() if one.name.startswith("finx-sync")]
        """,
    )
    assert done.returncode == 0, done.stdout
