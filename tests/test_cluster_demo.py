"""cluster/demo.py: what it does about Ctrl-C, with everything that costs time put aside."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.ray  # imports Ray


def test_half_a_run_is_neither_scored_nor_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster import demo

    trained: list[Any] = []

    def stopped(run: Any, scaling: Any) -> int:
        trained.append(run)
        return 3

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("must not be called")

    monkeypatch.setattr(demo, "start_ray", lambda **_: nullcontext())
    for name in ("check_resources", "prepare"):
        monkeypatch.setattr(demo, name, lambda *_, **__: None)
    monkeypatch.setattr(
        demo, "open_run", lambda config, *_, **__: SimpleNamespace(config=config, folder=tmp_path)
    )
    monkeypatch.setattr(demo, "train", stopped)
    for name in ("evaluate", "write_json", "_draw"):
        monkeypatch.setattr(demo, name, refuse)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 3"):
        demo.demo(tmp_path)
    assert len(trained) == 1
