# SPDX-License-Identifier: Apache-2.0
"""The command ``unetv2``. Each of its sub-commands runs one command of MONAI or one script of the project. It first
prints that command, so that you can later use it directly.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import yaml

from .core.errors import InputError
from .core.places import bundle_dir, scripts_dir
from .entries import entry_keys, read_entry, recipe_of

CONTENT = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
AFTER_EVALUATE = ("tta", "ensemble")  # these overlays change evaluate.json, so they follow it; others come before it


RUNS, SCRIPTS = (
    {name: SimpleNamespace(**entry) for name, entry in CONTENT[kind].items()} for kind in ("runs", "scripts")
)


def overlay_file(name: str, for_inference: bool) -> Path:
    """Find a user's file, or an overlay in ``recipes`` or ``options``. Inference prefers its own variant."""
    if name.endswith((".yaml", ".yml", ".json")) and Path(name).is_file():
        return Path(name)
    files = {path.stem: path for kind in ("recipes", "options") for path in bundle_dir().glob(f"configs/{kind}/*.yaml")}
    for stem in [f"inference_{name}", f"{name}_inference", name] if for_inference else [name]:
        if stem in files:
            return files[stem]
    raise InputError(f"--with {name}: there is no such file; there is {', '.join(sorted(files))}.")


def weights_file(name: str) -> tuple[Path, str | None]:
    """Find shipped weights by their key, or a file; return the file, and its recipe or None if it needs none."""
    if name in entry_keys():
        entry = read_entry(name)
        return entry.weights, entry.recipe
    if not Path(name).is_file():
        raise InputError(f"--weights {name}: there is no such file. The shipped weights are {', '.join(entry_keys())}.")
    if Path(name).suffix not in (".pt", ".pth"):  # an exported file, which carries no options for the configs
        return Path(name), None
    from .networks import options_of, read_weights  # imported late, since PyTorch takes seconds to import

    return Path(name), recipe_of(options_of(read_weights(name)))


def run_command(run: SimpleNamespace, arguments: argparse.Namespace, options: Sequence[str]) -> list[str]:
    """Return the arguments that ``python`` takes for a run of the bundle."""
    overlays, checkpoint = list(arguments.overlays), []
    overlays += ["folds"] if "--folds" in options and "folds" not in overlays else []
    if run.weights and arguments.weights:
        path, recipe = weights_file(arguments.weights)
        overlays = [*([recipe] if recipe and recipe not in overlays else []), *overlays]
        checkpoint = ["--checkpoint", _shown(path)]
    late = [name for name in overlays if name in AFTER_EVALUATE and "evaluate.json" in run.files]
    first, *others = (bundle_dir() / "configs" / name for name in run.files)
    paths = [overlay_file(name, run.run_id == "inference") for name in overlays if name not in late]
    paths = [first, *paths, *others, *(overlay_file(name, False) for name in late)]
    if overlays:
        refuse_unfit(paths)
    files = [_shown(path) for path in paths]
    config_file = files[0] if len(files) == 1 else "[" + ",".join(f"'{file}'" for file in files) + "]"
    command = ["-m", "monai.bundle", "run", run.run_id, "--config_file", config_file]
    folder = arguments.dataset_dir
    folder = f"./{folder}" if folder.startswith(("@", "$", "%")) else folder  # which MONAI would look up
    return [*command, "--dataset_dir", folder, *checkpoint, *options]


def refuse_unfit(paths: Sequence[Path]) -> None:
    """Raise InputError if a config changes a component of which those before it have nothing."""
    known = set[str]()
    for path in paths:
        keys = [key.lstrip("+").replace("::", "#").split("#") for key in yaml.safe_load(path.read_text()) or {}]
        if unfit := [first for first, *deeper in keys if deeper and first not in known]:
            raise InputError(
                f"--with {path.stem}: it changes {unfit[0]}, which {paths[0].name} does not have. Leave it out."
            )
        known |= {first for first, *_ in keys}


def script_command(script: SimpleNamespace, arguments: Sequence[str]) -> list[str]:
    """Return the arguments that ``python`` takes for a script."""
    given = list(arguments)
    if script.first and given and not given[0].startswith("-"):
        packs = script.file == "package_bundle.py" and given[0] in entry_keys()
        given = ["--entry" if packs else script.first, *given]
    for index in (i for i, word in enumerate(given) if i and given[i - 1] == "--checkpoint" and word in entry_keys()):
        given[index] = _shown(read_entry(given[index]).weights)
    asks = {"-h", "--help"} & {*given}
    if script.defaults and script.defaults[0] not in given and not asks:
        given += script.defaults
    return [_shown(scripts_dir() / script.file), *given]


def command_of(argv: Sequence[str]) -> list[str]:
    """Return the arguments that ``python`` takes for a command line of ``unetv2``, given without its first word."""
    if argv and argv[0] in SCRIPTS:
        return script_command(SCRIPTS[argv[0]], argv[1:])
    parser = argparse.ArgumentParser(
        "unetv2", None, CONTENT["description"], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, run in RUNS.items():
        epilog = "Any option of the configs can follow, such as --image_size 352."
        one = commands.add_parser(name, help=run.help, description=run.help, epilog=epilog, allow_abbrev=False)
        one.add_argument("dataset_dir", metavar=run.folder)
        if run.weights:
            default = "those for polyps" if name == "segment" else "output/models/model.pt"
            one.add_argument("--weights", help=f"{', '.join(entry_keys())} or a file (default: {default})")
        one.add_argument(
            "--with", dest="overlays", nargs="+", default=[], metavar="NAME", help="recipes, options, own files (.yaml)"
        )
    for name, script in SCRIPTS.items():
        commands.add_parser(name, help=script.help, add_help=False)
    arguments, options = parser.parse_known_args(argv)
    return run_command(RUNS[arguments.command], arguments, options)


def each_fold(words: Sequence[str]) -> dict[Path, list[str]]:
    """Return a command line for each fold, by its folder; none unless ``--folds`` is given without ``--fold``."""
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = {word: index for index, word in enumerate(words) if index and words[0] in ("train", "evaluate")}
    if "--folds" not in given or "--fold" in given:
        return {}
    count = "".join(words[given["--folds"] + 1 :][:1])
    if not count.isdecimal():
        raise InputError(f"--folds must be a positive integer, got {count!r}.")
    at = given.get("--output_dir", len(words))
    root, kept = Path("".join(words[at + 1 : at + 2]) or "output"), [*words[:at], *words[at + 2 :]]
    section = "".join(words[given.get("--eval_section", len(words)) + 1 :][:1])
    runs = {}
    for fold in range(int(count)):
        folder = root / f"fold_{fold}"
        late = ["--eval_section", "validation"] if words[0] == "evaluate" else []
        late = ["--eval_dir", str(folder / f"evaluation_{section}")] if section not in ("", "validation") else late
        late = ["--resume", "true"] if not late and (folder / "models" / "last.pt").is_file() else late
        runs[folder] = [*kept, "--fold", str(fold), "--output_dir", str(folder), *late]
    return runs


def fold_scores(folders: Sequence[Path]) -> str:
    """Return a sentence about the Dice that evaluations have written, of each fold and of all images out of fold."""
    from .core.files import read_csv  # imported late, since NumPy and Pillow take a while

    dice = [[float(row["dice"]) for row in read_csv(folder / "evaluation" / "scores.csv")] for folder in folders]
    means, pooled = [statistics.fmean(one) for one in dice], statistics.fmean(value for one in dice for value in one)
    each = ", ".join(f"{mean:.3f}" for mean in means)
    return f"Dice out of fold: {pooled:.3f}; of the folds {each}, standard deviation {statistics.pstdev(means):.3f}"


def _shown(path: Path) -> str:
    """Return a path as text, as a relative path if it lies below the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _quoted(word: str) -> str:
    """Quote a word for a shell. A list of files, which contains single quotes, gets double quotes."""
    return f'"{word}"' if "'" in word and not set('"$`\\!') & set(word) else shlex.quote(word)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the command that ``argv`` stands for, and replace this process by it. Folds run one after another."""
    words = [*(sys.argv[1:] if argv is None else argv)]
    try:
        folds = each_fold(words)
        commands = [command_of(one) for one in folds.values() or [words]]
    except InputError as error:
        sys.exit(f"error: {error}")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    for command in commands:
        print(" ".join(_quoted(word) for word in ["python", *command]), flush=True)
        if not folds:
            os.execv(sys.executable, [sys.executable, *command])
        if status := subprocess.run([sys.executable, *command]).returncode:
            sys.exit(status)
    if words[0] == "evaluate" and "validation" in commands[0]:
        print(fold_scores([*folds]))


if __name__ == "__main__":
    main()
