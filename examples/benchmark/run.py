"""Measure BELL: what one small learner knows of what a hundred teachers know, on classes that none of them saw.

    python examples/benchmark headline                    # recipe default, 3 seeds of 30 minutes each
    python examples/benchmark paper                       # recipe paper, the same minutes, 1 seed
    python examples/benchmark ablation mixed domains      # what helps; other teachers; several domains
    python examples/benchmark headline paper plot --json results.json
    python examples/benchmark all --quick                 # everything, tiny, in a few minutes

Run it in the repository's folder. Parts:

    paper     recipe paper: inductive (BatchNorm statistics of the support) and transductive (as published)
    headline  recipe default beside its baselines and, once trained, recipe paper, with the goals
    ablation  one thing of the default recipe changed at a time, one table
    defects   recipe paper with one defect of the released code at a time (not part of "all")
    mixed     teachers of several architectures
    domains   teachers of several data sets, made first with make_zoo.py; one learner for all
    heads     seconds that the adaptation heads take for the episodes
    plot      minutes against accuracy, of the runs of headline and paper that are finished
    all       all of them but defects

Every command skips what is finished and goes on with runs that were stopped; two commands may work in the same
--output at once. Results are one JSON file per row in results/, runs in runs/, tables in PART.md, all under --output.
To measure again after a change of the code, give another --output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.matrix import MATRIX
from benchmark.parts import Benchmark
from benchmark.store import made_with
from benchmark.tables import Table, provenance
from hf_free.errors import HfFreeError

PARTS = ("paper", "headline", "ablation", "mixed", "domains", "heads", "plot")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, print their tables, write them."""
    options = read_options(arguments)
    benchmark, tables = Benchmark(options), dict[str, Table]()
    try:
        for part in options.parts:
            benchmark.used.clear()
            failed = len(benchmark.failed)
            tables[part] = table = getattr(benchmark, part)()
            if benchmark.used:
                table.remarks += ["", provenance(benchmark.used)]
            print(f"{table.markdown()}\n", flush=True)
            options.output.mkdir(parents=True, exist_ok=True)
            written = options.output / f"{part}.md"
            if len(benchmark.failed) == failed or not written.exists():  # half a table replaces no finished one
                written.write_text(table.markdown() + "\n", encoding="utf-8")
    except KeyboardInterrupt:  # a run under way makes a checkpoint first and raises a kind of it
        sys.exit("Stopped; the same command goes on.")
    except HfFreeError as error:
        sys.exit(f"Error: {error}")
    finally:
        if options.json:
            known = earlier_tables(options.json) | {part: table.to_dict() for part, table in tables.items()}
            content = {"made": made_with(), "tables": known}
            options.json.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if benchmark.failed:
        sys.exit(f"Failed: {', '.join(benchmark.failed)}")


def earlier_tables(path: Path) -> dict[str, Any]:
    """The tables of parts that an earlier command wrote there; each names its own machine and commit."""
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return tables if isinstance(tables, dict) else {}


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    shared, scenarios = Path("../shared"), MATRIX["scenarios"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=(*PARTS, "defects", "all"), metavar="PART", help="see above")
    parser.add_argument(
        "--zoo", type=Path, default=shared / "zoo" / scenarios["headline"]["zoo"], help="folder of teachers"
    )
    parser.add_argument(
        "--mixed-zoo",
        type=Path,
        default=shared / "zoo" / scenarios["mixed"]["zoo"],
        help="those of part mixed",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=shared / "data" / scenarios["headline"]["data"],
        help="data set to measure on",
    )
    parser.add_argument("--data-root", type=Path, default=shared / "data", help="folder of the data sets of domains")
    parser.add_argument("--split", default="validation", help="its classes to measure on")
    parser.add_argument("--episodes", type=int, help="default: 600")
    parser.add_argument("--curve-episodes", type=int, default=200, help="for each point of the plot")
    parser.add_argument("--teachers", type=int, help="take only the first N teachers of a zoo")
    parser.add_argument("--domain-teachers", type=int, help="teachers a data set of domains; default: 10")
    parser.add_argument("--domain-epochs", type=int, help="epochs they are trained for; default: 100")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2; all parts but headline take the first")
    parser.add_argument("--minutes", type=float, help="training time of a run at most; default: 30")
    parser.add_argument("--ablation-minutes", type=float, help="of a row of ablation or defects; default: 10")
    parser.add_argument("--quick", action="store_true", help="tiny runs; says nothing about the method")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="any other key of the configuration"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--output", type=Path, help="default: runs/benchmark_bell, with --quick runs/benchmark_bell_quick"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there too, beside those there")
    options = parser.parse_args(arguments)
    if "all" in options.parts:
        options.parts = list(PARTS)
    options.parts.sort(key=(*PARTS, "defects").index)  # headline shows what paper has trained
    domains, known = scenarios["domains"], ("episodes", "seeds", "minutes", "ablation_minutes")
    usual = {name: MATRIX[name] for name in known} | {"output": Path("runs/benchmark_bell")}
    usual |= {"domain_teachers": domains["teachers"], "domain_epochs": domains["epochs"]}
    quick = {name: value for name, value in MATRIX["quick"].items() if name != "set"}
    quick |= {"output": Path("runs/benchmark_bell_quick")}
    for name, value in (quick if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    main()
