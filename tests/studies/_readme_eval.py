"""The README's part about the speed of evaluation, from the records of `make bench-eval`."""

from typing import Any


def evaluation_part(record: dict[str, Any], gpu: dict[str, Any] | None) -> str:
    """Counting, the forward pass, actors; and what a GPU does, where there is a record of one."""
    parts = [_counting(record), _forward(record), _actors(record)]
    parts += [_gpu(gpu)] if gpu else []
    return "\n\n".join(parts)


def _counting(record: dict[str, Any]) -> str:
    counting = record["counting"]
    ms = counting["cpu_ms_per_pair"]
    rows = [
        ("counting pixels", "official, counting", "ours, counting"),
        ("whole evaluation", "official, whole", "ours, whole"),
        (
            "whole evaluation with iIoU",
            "official, whole with instances",
            "ours, whole with instances",
        ),
    ]
    if "official compiled, counting" in ms:
        compiled = ("counting pixels, official compiled", "official compiled, counting")
        rows.insert(1, (*compiled, "ours, counting"))
    lines = [
        f"| one pair of {record['size']} label maps | official program, CPU ms | ours | times |",
        "|---|---|---|---|",
    ]
    for title, official, ours in rows:
        lines.append(
            f"| {title} | {ms[official]:.1f} | {ms[ours]:.1f} | {ms[official] / ms[ours]:.1f} |"
        )
    lines.append("")
    fastest = min(("PIL", "OpenCV"), key=lambda name: ms[f"decoding, {name}"])
    lines.append(
        f"{counting['official']} on {counting['pairs']} pairs of rendered labels and made-up "
        f"predictions ({_percent(counting['share_differing'])} of the labelled pixels differ: "
        f"moved boundaries, patches, single pixels); both count the same. A whole evaluation takes "
        f"{counting['whole_over_decoding']:.2f} times what {fastest} takes to decode its files."
    )
    return "\n".join(lines)


def _forward(record: dict[str, Any]) -> str:
    by_threads = record["forward"]["by_threads"]
    many = max(by_threads, key=int)
    lines = [
        f"| one {record['size']} image | 1 thread, CPU s | faster | {many} threads, s | faster "
        "| peak GB | other class |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in by_threads["1"]:
        one, all_threads = by_threads["1"][name], by_threads[many][name]
        cells = [_time(one, "cpu_seconds"), _speed_up(one)]
        cells += [_time(all_threads, "seconds"), _speed_up(all_threads)]
        done = next((row for row in (one, all_threads) if "failed" not in row), None)
        cells.append(f"{done['peak_mb'] / 1000:.1f}" if done else "")
        cells.append(_percent(done["share_differing"]) if done else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    lines.append(
        f"{record['forward']['network']}, which say nothing of how many pixels of a trained one "
        "change their class. Compiled cases leave out the compilation."
    )
    return "\n".join(lines)


def _actors(record: dict[str, Any]) -> str:
    actors = record["actors"]
    rows = actors["by_actors"]
    speeds = ", ".join(f"{row['images_per_s']:.1f} with {count}" for count, row in rows.items())
    busy = max(row["others_cores"] for row in rows.values())
    missed = [f"{name}: {goal['value']:.2f} ({goal['goal']})"
              for name, goal in record["goals"].items() if not goal["met"]]  # fmt: skip
    return (
        f"Evaluation actors, images/s of {actors['size']} with the demo's network: {speeds} "
        f"(times {actors['scaling']:.2f}; other programs kept up to {busy:.1f} cores busy). "
        + (f"Missed goals: {'; '.join(missed)}. " if missed else "")
        + f"`{record['command']}` on {record['machine']}, commit {record['commit']}{_kept(record)}."
    )


def _gpu(record: dict[str, Any]) -> str:
    sizes = list(next(iter(record["cases"].values())))
    heads = " | ".join(f"batch {size}" for size in sizes)
    lines = [
        f"| {record['device']}, ms per {record['size']} image | {heads} | peak GB | other class |",
        "|---" * (len(sizes) + 3) + "|",
    ]
    for name, rows in record["cases"].items():
        times = " | ".join(f"{rows[s]['ms_per_image']:.1f}" if s in rows else "" for s in sizes)
        first = rows[sizes[0]]
        lines.append(
            f"| {name} | {times} | {first['peak_mb'] / 1000:.1f} "
            f"| {_percent(first['share_differing'])} |"
        )
    lines.append("")
    text = "Peak memory and other classes are those of the first batch size. "
    if runs := record["evaluate_images"]:
        best = max(runs, key=lambda run: run["images_per_s"])
        alone = next(
            run
            for run in runs
            if run["threads"] == 0
            and all(run[key] == best[key] for key in ("precision", "batch_size", "codec"))
        )
        text += (
            f"Whole evaluation of encoded images: {best['images_per_s']:.0f} images/s "
            f"({best['precision']}, batches of {best['batch_size']}, codec {best['codec']}) with "
            f"{best['threads']} threads beside the network, {alone['images_per_s']:.0f} without. "
        )
    if record["left_out"]:
        text += f"Left out: {'; '.join(record['left_out'])}. "
    lines.append(f"{text}`{record['command']}` on {record['machine']}, commit {record['commit']}.")
    return "\n".join(lines)


def _time(row: dict[str, Any], key: str) -> str:
    return row["failed"] if "failed" in row else f"{row[key]:.1f}"


def _speed_up(row: dict[str, Any]) -> str:
    return "" if "failed" in row else f"{row['speed_up']:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _kept(record: dict) -> str:
    """Which parts are of an earlier run, that was interrupted."""
    kept = " and ".join(record.get("kept", []))
    return f" ({kept}: shortly before it)" if kept else ""
