"""--project: folders that are what their policy makes, and that their own build systems take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncpc.cli.commands import run
from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.driver.pipeline import compile_policy
from ncpc.driver.reopen import verify_build
from ncpc.targets.base import PROGRAM
from ncpc.targets.c.projects.kinds import KINDS, told
from ncpc.verification.verdict import SEARCH
from tests.c_programs import program_of, tiny_policy
from tests.conftest import Golden
from tests.nets import random_policy
from tests.projects import cmake_command, laid_out, output, put

ROOT = Path(__file__).parent.parent
CARTPOLE = ROOT / "examples" / "cartpole" / "policy.safetensors"
Emitted = Callable[[str], dict[str, bytes]]


@pytest.fixture(scope="module")
def cartpole() -> dict[str, bytes]:
    """Everything that the cart-pole's integers are emitted as, all projects among it."""
    job = job_for(CARTPOLE, Request("host", extra={"project": ",".join(KINDS)}))
    return dict(job.target.prepare(lower_for(job.container, job.options).lowered, job.options).files)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cart_pole_s_folder(kind: str, cartpole: dict[str, bytes], golden: Golden) -> None:
    """Each file as it was read and found good; the C in it is that of the build."""
    own = {name: text for name, text in cartpole.items() if name.startswith(f"{kind}/")}
    assert f"{kind}/README.md" in own
    for name, text in own.items():
        if (same := cartpole.get(Path(name).name)) is not None:
            assert text == same
        else:
            golden(f"projects/{'cartpole.hpp' if name.endswith('.hpp') else name}", text)  # one header for all


@pytest.mark.parametrize(("rate", "period_ms"), [("", 20), ("50", 20), ("60", 17), ("2", 500), ("2k", 1)])
def test_mains_step_as_often_as_is_asked(rate: str, period_ms: int) -> None:
    """Never more often: for that the deadline was not held."""
    extra = {"project": "cmake,arduino", "clock": "80M"} | ({"rate-hz": rate} if rate else {})
    job = job_for(CARTPOLE, Request("cortex-m4", extra=extra))
    files = job.target.prepare(lower_for(job.container, job.options).lowered, job.options).files
    sketch = next(text for name, text in files.items() if name.endswith(".ino"))
    assert f"PERIOD_MS = {period_ms};".encode() in sketch


@pytest.fixture
def _short_search() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 12})
        yield


@pytest.mark.usefixtures("_short_search")
def test_verify_knows_every_file_of_a_project(tmp_path: Path, require_tool) -> None:
    require_tool("ziglang")
    folder, extra = tmp_path / "build", {"project": "cmake"}
    asked = Request("host", steps=60, tolerance=0.05, certify="none", extra=extra)
    made = compile_policy(random_policy(4), folder, asked)
    assert made.exit_code == 0
    assert {"cmake/src/net.c", "cmake/include/net.hpp"} <= set(made.report["files"])
    assert verify_build(folder).exit_code == 0
    wrapper = folder / "cmake" / "include" / "net.hpp"
    wrapper.write_bytes(wrapper.read_bytes() + b"/**/")
    (folder / "cmake" / "src" / "more.c").touch()
    again = verify_build(folder)
    assert again.exit_code == 1
    reasons = "\n".join(again.report["verdict"]["reasons"])
    assert "cmake/include/net.hpp is not the file that was compiled" in reasons
    assert "cmake/src/more.c is no file of this build" in reasons


@pytest.mark.parametrize(("options", "words"), [
    (["--project", "eclipse"], "--project eclipse: unknown; choose from cmake"),
    (["--project", "cmake", "-t", "onnx"], "--project: an option of host, c,"),
])
def test_what_cannot_be_laid_out_is_one_line(
    options: list[str], words: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compile", str(good), *options, "-o", str(tmp_path / "build")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "build").exists()


def test_the_option_may_be_given_several_times(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []

    def stop(_policy: object, _out: object, request: Request, **_: object) -> None:
        seen.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr("ncpc.cli.commands.compile_policy", stop)
    run(["compile", str(good), "--project", "cmake", "--project", "cmake", "-o", str(tmp_path / "build")])
    assert seen[0].extra == {"project": "cmake,cmake"}


def test_what_is_told_is_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "cmake").mkdir()
    assert told(tmp_path, ",".join(KINDS)) == [f"{tmp_path}/cmake: {KINDS['cmake'].opens}"]


CONSUMER = """cmake_minimum_required(VERSION 3.15)
project(consumer LANGUAGES C CXX)
if(TREE)
  add_subdirectory(${TREE} policy)
else()
  find_package(tiny 1.0 REQUIRED)
endif()
add_executable(consumer consumer.cpp)
target_link_libraries(consumer PRIVATE tiny::policy)
"""
CONSUMER_SOURCE = """#include <tiny.hpp>
#include <cstdio>
int main() { tiny::Policy p; std::printf("%d %.9g\\n", tiny_self_test(), double(p.step({0.5f, 2.0f}).angle)); }
"""


@pytest.fixture
def cmake(require_tool, require_program) -> list[str]:
    require_program("g++")
    return cmake_command(require_tool)


@pytest.mark.parametrize(("scheme", "dt"), [
    ("int16", "fixed"), pytest.param("float32", "runtime", marks=pytest.mark.slow)])
def test_cmake_builds_installs_and_runs(scheme: str, dt: str, tmp_path: Path, cmake: list[str]) -> None:
    project = laid_out(program_of(tiny_policy(), scheme, dt), ["cmake"], tmp_path) / "cmake"
    output([*cmake, "-B", "out", "-DCMAKE_BUILD_TYPE=Release", "-Werror=dev"], project)
    output([cmake[0], "--build", "out"], project)
    lines = [output([project / "out" / f"tiny_example_{language}"], project).splitlines() for language in ("c", "cpp")]
    assert lines[0] == lines[1]
    assert lines[0][0] == "tiny self test: passed"
    assert len(lines[0]) == 6
    assert all(line.startswith("angle ") and line.endswith("status 0") for line in lines[0][1:])


def test_cmake_projects_take_it_as_a_package_and_as_a_folder(tmp_path: Path, cmake: list[str]) -> None:
    project = laid_out(program_of(tiny_policy(), "int16", "fixed"), ["cmake"], tmp_path) / "cmake"
    output([*cmake, "-B", "out"], project)
    output([cmake[0], "--build", "out"], project)
    output([cmake[0], "--install", "out", "--prefix", tmp_path / "prefix"], project)
    put(tmp_path / "use", {"CMakeLists.txt": CONSUMER, "consumer.cpp": CONSUMER_SOURCE})
    said = set()
    for name, way in (("package", f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}"), ("folder", f"-DTREE={project}")):
        output([*cmake, "-B", name, way], tmp_path / "use")
        output([cmake[0], "--build", name], tmp_path / "use")
        said.add(output([tmp_path / "use" / name / "consumer"], tmp_path))
    assert len(said) == 1
    assert said.pop().startswith("0 ")


def test_a_wrong_table_stops_the_example(tmp_path: Path, require_program) -> None:
    """A planted fault: the example says so and drives nothing."""
    project = laid_out(program_of(tiny_policy(), "int16", "fixed"), ["cmake"], tmp_path) / "cmake"
    source = project / "src" / "tiny.c"
    source.write_text(source.read_text().replace("!= test_y", "!= 1 + test_y"))
    output([require_program("gcc"), "-Iinclude", "src/tiny.c", "example/main.c", "-o", "out"], project)
    assert output([project / "out"], project, 1) == "tiny self test: FAILED\n"
