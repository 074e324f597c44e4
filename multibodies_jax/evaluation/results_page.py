"""Tables for people from the results.json of one evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from configs import default
from multibodies_jax.evaluation import ablations, intervals, protocols
from multibodies_jax.evaluation.methods import HMR
from multibodies_jax.hypotheses import weight_kinds
from multibodies_jax.models import build
from multibodies_jax.training import provenance

SAME_PEOPLE = {
    "single_mpjpe": "MPJPE of the single hypothesis",
    "spread_of_hidden_joints_mm": "spread of joints then hidden",
    "spread_of_visible_joints_mm": "spread of joints still visible",
}
"""What `results.same_people` finds, as columns."""

_WORDS = ("visible", "hidden")
_COLUMNS = {"mpjpe": "MPJPE", "pa_mpjpe": "RE", "pck150": "PCK %", "auc": "AUC %", "other_views_px": "other views, px"}


def markdown(result: Mapping[str, Any]) -> str:
    """The table of every set, like the paper's Table 1, with controls, paired comparisons and diagnostics."""
    lines = [
        f"# Results: {result['body']}",
        "",
        f"M = {result['num_hypotheses']} hypotheses, split {result['split']}. {_protocol(result['protocol'])}",
        *([_protocol(result["protocol_strict"])] if "protocol_strict" in result else []),
        *unusual_settings(result),
        f"Commit {_short(result['commit'])}, seed {result['seed']}. Errors in millimetres: mean over images ± half a 95 % interval.",
    ]
    if "computed" in result:  # Not in results of earlier versions.
        lines.append(_computed(result["computed"]))
    for name in result["metrics"]:
        lines += ["", f"## {name} ({result['datasets'][name]['examples']} images)", ""]
        lines += _table(result["metrics"][name], result.get("label", "ours"))
        if name in result.get("published", {}):
            lines += published_table(result["published"][name], result["config"]["eval"]["published"])
        lines += _cameras(result.get("cameras", {}).get(name, {}), result.get("label", "ours"))
        lines += _comparisons(result["compared"][name], result.get("label", "ours"))
        lines += _of_one(result.get("single", {}).get(name, {}))
        lines += _diagnostics(result["diagnostics"][name])
        lines += _calibration(result.get("calibration", {}).get(name, {}), "")
        lines += _calibration(result.get("calibration_refined", {}).get(name, {}), " of refined sets")
    lines += same_people(result["same_people"])
    lines += ["", "## Prior and what was chosen on the validation splits", ""]
    held_out, noise = result["prior"]["held_out_log_prob"], result["prior"]["noise_mm"]
    if held_out is not None:
        lines.append(f"- Held-out log-likelihood of the prior: {held_out:.1f} nats at {noise:g} mm noise.")
    for name, tuned in result["tuned_on_validation"].items():
        if "temperature" in tuned and weight_kinds.reads_prior(result["config"]["quantizer"]["weights"]):
            lines.append(f"- {name}: temperature {tuned['temperature']['chosen']:g}.")
        if "noise_deg" in tuned:
            noises = ", ".join(f"{k} {v['root']:g}/{v['pose']:g}" for k, v in tuned["noise_deg"].items())
            lines.append(f"- {name}: noise of the HMR control, root/pose in degrees: {noises}.")
        for row in (*default.FITTED, *default.FITTED_WEIGHTED):
            if row in tuned:
                told = ", ".join(f"{k} {v:g}" for k, v in tuned[row]["chosen"].items())
                lines.append(f"- {name}: fit of the row {row}: {told}.")
    lines += _inspections(result)
    return "\n".join(lines)


def _computed(by: Mapping[str, Any]) -> str:
    """On what, and with what, the numbers were computed."""
    trunk = f", the trunk in {by['trunk']}" if by["trunk"] != "XLA" else ""
    return f"Computed with jax {by['jax']} on {by['devices']} device(s), {by['device']}{trunk}."


def _inspections(result: Mapping[str, Any]) -> list[str]:
    """What the inspection of a network found on each set, in its own words."""
    model = result.get("model", "")
    if model not in build.NETWORKS:
        return []
    network = build.NETWORKS[model]
    if network.describe_inspection is None:
        return []
    found = result.get(network.config_part or model, {})
    sentences = {name: network.describe_inspection(one) for name, one in found.items()}
    return [f"- {name}: {sentence}" for name, sentence in sentences.items() if sentence]


def unusual_settings(result: Mapping[str, Any]) -> list[str]:
    """What makes this an ablation: its name in the table is that of the method."""
    config = result["config"]
    fields = provenance.training_fields(config) | ablations.drawn(config, result.get("model", ""))
    told = ablations.known_words(fields)
    kind = config["quantizer"]["weights"]
    if kind != "prior" and result["num_hypotheses"] > 1:
        told.append(f"quantized with {weight_kinds.KINDS[kind]}")
    told += [
        f"trained on at step {plan['at_step']}, after a schedule of {plan['planned_steps']} steps"
        for plan in result.get("extended", [])
    ]
    return [f"Not the usual setting: {', '.join(told)}."] if told else []


def _protocol(protocol: Mapping[str, Any]) -> str:
    """What was compared with what, in a sentence."""
    against = f" to {protocol['selected_against']}" if protocol["selected_against"] else ""
    frame = f" In the frame of {protocol['frame']}." if "frame" in protocol else ""
    block = f" Intervals are of blocks of {protocol['block']} frames." if "block" in protocol else ""
    roots = protocol["root"]
    if protocol["truth_root"] != "pelvis":
        roots = f"of the prediction {roots}, of the truth {protocol['truth_root']}"
    return (
        f"Protocol {protocol['name']}: {protocol['selection']}{against}, truth {protocol['truth']}, "
        f"{len(protocol['joints'])} joints of {protocol['regressor']}, root {roots}; RE after {protocol['alignment']}; "
        f"for images: {protocol['examples']}.{frame}{block}"
    )


def _short(commit: str) -> str:
    digest, plus, dirty = commit.partition("+")
    return digest[:12] + plus + dirty


def _table(methods: Mapping[str, Any], label: str) -> list[str]:
    """A row per method, and below it one for the strict sibling of the protocol if both were evaluated.

    The columns are the n of the main row, of other rows with several, and 1.
    """
    shown = (n for method, sets in methods.items() for n in sets if method == label or len(sets) > 1 or n == "1")
    ns = sorted(set(map(int, shown)))
    known = {name for sets in methods.values() for scores in sets.values() for name in scores}
    columns = {name: label for name, label in _COLUMNS.items() if name in known}
    header = ["method"] + [f"{label}-{n}" for n in ns for label in columns.values()]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    suffixes = {"": "", protocols.STRICT: ", strict"} if "mpjpe" + protocols.STRICT in known else {"": ""}
    for method, sets in methods.items():
        for suffix, words in suffixes.items():
            names = [name + suffix for name in columns]
            if set(map(int, sets)) <= set(ns):
                cells = [_cell(sets.get(str(n), {}).get(name)) for n in ns for name in names]
                lines.append(f"| {method}{words} | " + " | ".join(cells) + " |")
            else:
                n, scores = next(iter(sets.items()))
                cells = " / ".join(_cell(scores[name]) for name in names)
                lines.append(f"| {method}{words}, n = {n}: {cells} |" + " |" * (len(header) - 1))
    return lines


def _cell(summary: Mapping[str, Any] | None) -> str:
    if not summary:
        return ""
    return f"{summary['mean']:.1f} ± {intervals.half_width(summary):.1f}"


def _cameras(by_camera: Mapping[str, Any], label: str) -> list[str]:
    """MPJPE of the main row and of what is fitted, for each camera."""
    lines: list[str] = []
    for camera, methods in by_camera.items():
        shown = {
            name: sets for name, sets in methods.items() if name in (label, f"{label}, refined", HMR, f"{HMR}, refined")
        }
        lines += ["", f"Camera {camera}:", "", *_table(shown, label)]
    return lines


def published_table(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Ours beside the authors' README and paper: the rows of `published.compare`."""
    lines = ["", f"The authors' numbers for {name}, mm; difference: ours minus their README's.", ""]
    lines += ["| n | metric | ours | README | difference | paper |", "|---|---|---|---|---|---|"]
    for r in rows:
        numbers = f"{r['ours']:.3f} | {r['readme']:.3f} | {r['difference']:+.3f} | {r['paper']:.1f}"
        lines.append(f"| {r['n']} | {_COLUMNS[r['metric']]} | {numbers} |")
    return lines


def _comparisons(rows: Sequence[Mapping[str, Any]], label: str) -> list[str]:
    if not rows:
        return []
    lines = [
        "",
        f"Paired difference of {label} to each control, 95 % interval over images (below 0: {label} is better):",
        "",
    ]
    lines += ["| control | n | MPJPE | RE |", "|---|---|---|---|"]
    cells = {(r["control"], r["n"], r["metric"]): _interval(r) for r in rows}
    for control, n in dict.fromkeys((r["control"], r["n"]) for r in rows):
        lines.append(f"| {control} | {n} | {cells[control, n, 'mpjpe']} | {cells[control, n, 'pa_mpjpe']} |")
    return lines


def _of_one(taken: Mapping[str, Any]) -> list[str]:
    """Errors of a single hypothesis, by how it is taken."""
    if not taken:
        return []
    known = {metric for scores in taken.values() for metric in scores}
    columns = {metric: label for metric, label in _COLUMNS.items() if metric in known}
    lines = ["", "| one hypothesis | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, scores in taken.items():
        lines.append(f"| {name} | " + " | ".join(_cell(scores.get(metric)) for metric in columns) + " |")
    return lines


def _diagnostics(values: Mapping[str, Any]) -> list[str]:
    lines = [""]
    spread = [
        f"{word} {values[f'spread_{word}_mm']['mean']:.1f} mm" for word in _WORDS if f"spread_{word}_mm" in values
    ]
    lines.append(f"- Spread of the M hypotheses, joints that are: {', '.join(spread)}.")
    if "reprojection_px" in values:  # Some test sets have no keypoints.
        px = values["reprojection_px"]["mean"]
        refined = f", refined {values[key]['mean']:.1f}" if (key := "refined_reprojection_px") in values else ""
        lines.append(f"- 2D error of the hypotheses on visible keypoints: {px:.1f}{refined} px of 224.")
    if "silhouette_iou" in values:
        hmr = f" (of HMR: {values['hmr_silhouette_iou']['mean']:.2f})" if "hmr_silhouette_iou" in values else ""
        lines.append(
            f"- Silhouettes of the hypotheses with the person's, intersection over union: "
            f"{values['silhouette_iou']['mean']:.2f}{hmr}."
        )
    if "hypotheses_ever_best" in values:
        ever, use = values["hypotheses_ever_best"], values["hypotheses_in_use"]
        never = f"; never: {values['hypotheses_never_best']}" if "hypotheses_never_best" in values else ""
        lines.append(f"- Hypotheses ever best: {ever}{never}; in use (perplexity): {use:.1f}.")
    printed, tuned = values["effective_printed"]["mean"], values["effective_tuned"]["mean"]
    lines.append(
        f"- Effective number of hypotheses under the prior: {printed:.1f} at temperature 1, {tuned:.1f} at the chosen one."
    )
    if energies := values.get("energy_mm"):
        texts = ", ".join(f"{energy['mean']:.1f} at n = {n}" for n, energy in energies.items())
        lines.append(f"- Quantization energy (eq 3), its root in mm: {texts}.")
    if "worse_when_shuffled" in values:
        lines.append(f"- With the evidence of other images MPJPE-1 is {values['worse_when_shuffled']:+.0%}.")
    return lines


_FITTED = {
    "sharpness": "sharpness fitted",
    "top_ece_fitted": "ECE of the most probable with it",
    "log_loss_fitted": "log loss with it",
}


def _calibration(by_n: Mapping[str, Any], of_what: str) -> list[str]:
    """How far the clusters' probabilities are from how often the truth is in them."""
    if not by_n:
        return []
    columns = {
        "temperature": "temperature",
        "ece": "ECE",
        "top_ece": "ECE of the most probable",
        "ece_uniform": "ECE of uniform weights",
        "top_ece_uniform": "ECE of the most probable, uniform weights",
        "log_loss": "log loss",
        "log_loss_uniform": "log loss of uniform weights",
    }
    columns |= {name: label for name, label in _FITTED.items() if any(name in scores for scores in by_n.values())}
    if any("scores" in scores for scores in by_n.values()):
        columns |= {
            "scores.top_ece": "ECE of the most probable, learned scores",
            "scores.log_loss": "log loss, learned scores",
        }
    learned = [scores.get("scores", {}) for scores in by_n.values()]
    columns |= {
        f"scores.{name}": f"{label}, learned scores"
        for name, label in _FITTED.items()
        if any(name in scores for scores in learned)
    }
    lines = [
        "",
        f"Calibration of the probabilities{of_what}: the truth's share in each cluster against its probability.",
        "",
    ]
    lines += ["| n | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for n, its in sorted(by_n.items(), key=lambda item: int(item[0])):
        scores = {**its, **{f"scores.{name}": value for name, value in its.get("scores", {}).items()}}
        cells = [f"{scores[name]:.3f}" if scores.get(name) is not None else "" for name in columns]
        if scores.get("temperature") == 0:  # The factor 0 on the log-prior: there is no temperature.
            cells[0] = weight_kinds.KINDS[scores.get("weights", "uniform")]
        lines.append(f"| {n} | " + " | ".join(cells) + " |")
    return lines


def same_people(kinds: Mapping[str, Any]) -> list[str]:
    """What hiding does to the same people (`results.same_people`), as a section of Markdown."""
    if not kinds:
        return []
    lines = ["", "## The same people with and without occlusion: difference, 95 % interval over images, mm", ""]
    lines += [f"| hidden | images | {' | '.join(SAME_PEOPLE.values())} |", "|---|---|---|---|---|"]
    for kind, entry in kinds.items():
        cells = [_interval(entry[key]) if key in entry else "" for key in SAME_PEOPLE]
        lines.append(f"| {kind} | {entry['examples']} | " + " | ".join(cells) + " |")
    return lines


def _interval(paired: Mapping[str, Any]) -> str:
    return f"{paired['mean']:+.1f} [{paired['low']:+.1f}, {paired['high']:+.1f}]"
