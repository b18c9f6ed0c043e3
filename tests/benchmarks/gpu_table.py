"""The Markdown table of the GPU benchmark, from what has been measured."""

from typing import Any

Found = dict[str, dict[str, Any]]
PUBLISHED = {
    "step 0.6B fused": "prime-rl, one H100: 11.9k tok/s, 12.5 GiB",
    "step 0.6B fused lora": "prime-rl, one H100: 13.3k tok/s, 5.1 GiB",
    "step 4B fused lora": "prime-rl, one H100: 6.2k tok/s, 23.3 GiB",
}
BESIDE = "goals beside TRL: time 0.67, memory 0.5"


def written(heading: str, found: Found, peak_tflops: float | None, names: list[str]) -> str:
    """Return the tables: what is missing and what failed says so."""
    lines = [f"{heading}. Recomputed activations, 4 x 4,096 tokens a step, bfloat16 weights and AdamW.", ""]
    lines += ["| training step | tokens/s | MFU | peak memory, GiB | step, ms | anchor |", "|---|---:|---:|---:|---:|---|"]
    lines += [_step(name, found, peak_tflops) for name in names if name.startswith("step")]
    lines += ["", "| log-probs and entropy, forward and backward | ms | over the products | peak memory, GiB | goal |"]
    lines += ["|---|---:|---:|---:|---|"]
    lines += [_head(name, found) for name in names if name.startswith("head")]
    lines += ["", "| what else | figure |", "|---|---|"]
    lines += [_other(name, found) for name in names if name.split()[0] in ("lengths", "run", "tests")]
    return "\n".join(lines) + "\n"


def _missing(name: str, found: Found) -> str | None:
    if name not in found:
        return "not measured yet"
    return found[name].get("failed")


def _gib(each: dict[str, Any]) -> str:
    return "n/a" if each.get("gib") is None else f"{each['gib']:.1f}"


def _step(name: str, found: Found, peak_tflops: float | None) -> str:
    if why := _missing(name, found):
        return f"| {name[5:]} | {why} | | | | {PUBLISHED.get(name, '')} |"
    each, seconds = found[name], found[name]["seconds"]
    used = f"{each['flops'] / seconds / peak_tflops / 1e12:.1%}" if peak_tflops else "n/a"
    return (
        f"| {name[5:]} | {each['tokens'] / seconds:,.0f} | {used} | {_gib(each)} | {1e3 * seconds:,.1f} "
        f"| {_anchor(name, found)} |"
    )


def _anchor(name: str, found: Found) -> str:
    told = [PUBLISHED[name]] if name in PUBLISHED else []
    theirs = found.get(name.replace("fused", "TRL"), {})
    if "fused" in name and "seconds" in theirs:
        ours = found[name]
        ratios = [f"time {ours['seconds'] / theirs['seconds']:.2f}"]
        ratios += [f"memory {ours['gib'] / theirs['gib']:.2f}"] if ours.get("gib") and theirs.get("gib") else []
        told.append(f"of TRL's: {', '.join(ratios)} ({BESIDE})")
    return "; ".join(told)


def _head(name: str, found: Found) -> str:
    if why := _missing(name, found):
        return f"| {name[5:]} | {why} | | | |"
    floor = found.get(f"head products {name.rsplit(maxsplit=1)[-1]}", {}).get("seconds")
    ratio = f"{found[name]['seconds'] / floor:.2f}" if floor else "n/a"
    goal = "1.25" if "kernels" in name else ""
    return f"| {name[5:]} | {1e3 * found[name]['seconds']:,.2f} | {ratio} | {_gib(found[name])} | {goal} |"


def _other(name: str, found: Found) -> str:
    if why := _missing(name, found):
        return f"| {name} | {why} |"
    each = found[name]
    if name == "tests":
        return f"| tests marked `gpu` | {each['told']} |"
    if name.startswith("run"):
        mismatch = f", inference_mismatch/kl at most {each['mismatch']:.1e}" if "mismatch" in each else ""
        return (
            f"| a run of {each['steps']} steps, engine transformers, bfloat16 | {each['seconds']:.2f} s a step{mismatch} |"
        )
    speed = f"{each['tokens'] / each['seconds']:,.0f} tokens/s without padding"
    return f"| update on log-normal lengths, {name.split()[1]} | {speed} |"
