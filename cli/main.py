"""`hf-free`: reads the command line, runs one verb, turns errors into one clear message and an exit code.

Exit codes: 0 done, 1 an error that names its way out, 2 a command line that cannot be read, 75 a run that was
stopped and goes on with --resume, 130 interrupted (128 and the signal's number) with nothing to resume, 141 (SIGPIPE)
nobody reads the output any more.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from rich.text import Text

from hf_free.cli.arguments import Grammar, UsageError, rewrite
from hf_free.cli.console import Interrupted, output_console, plain, progress_console, show_error
from hf_free.cli.encoding import replace_closed_streams, speak_plainly
from hf_free.cli.verbs import (
    adapt,
    cost,
    demo,
    distill,
    evaluate,
    export,
    inspect,
    invert,
    methods,
    pool,
    predict,
    push,
    report,
    search,
    serve,
    sweep,
    train,
)
from hf_free.cli.verbs import app as app_verb
from hf_free.errors import ConfigError, FailedElsewhere, HfFreeError
from hf_free.hub.address import check_address
from hf_free.runtime.end_signals import EndedBySignal, ended_in_order
from hf_free.runtime.launched import Launched
from hf_free.runtime.said_once import said_once
from hf_free.runtime.storage import storage_problem
from hf_free.runtime.text import without_secrets
from hf_free.runtime.waiting import wait_briefly
from hf_free.version import __version__

_COMPLETION_VARIABLE = "_HF_FREE_COMPLETE"
_NOBODY_READS = 128 + 13
"""Exit code where the reader of the output has gone: that of a program that SIGPIPE ended."""
_INTEGER_LISTS = frozenset({"--k-shot"})
_BARE = {"--transductive": "all"}
"""What a list flag without a value means."""
_HINTS = {"train": "teachers follow --models: hf-free train --models ID ID; a value with blanks needs quotes"}

app = typer.Typer(
    name="hf-free",
    help="Turn image classifiers from the Hub into one few-shot learner, without their training data.",
    epilog="Start with [bold]hf-free demo[/bold]. Each verb has its own [bold]--help[/bold] with examples.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        output_console().print(f"hf-free {__version__}")
        raise typer.Exit


@app.callback()
def _global_flags(
    version: Annotated[
        bool, typer.Option("--version", "-v", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error (or set HF_FREE_DEBUG=1).")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use cached files only, never the Hub (or set HF_HUB_OFFLINE=1).")
    ] = False,
) -> None:
    """Flags before the verb; `main` has acted on --debug and --offline already, wherever they stood."""


for _module, _panel in (
    (train, "Learn"),
    (pool, "Learn"),
    (distill, "Learn"),
    (evaluate, "Learn"),
    (adapt, "Learn"),
    (predict, "Learn"),
    (inspect, "Look at models"),
    (invert, "Look at models"),
    (cost, "Look at models"),
    (methods, "Learn"),
    (search, "Look at models"),
    (sweep, "Look at models"),
    (report, "Look at models"),
    (push, "Publish"),
    (export, "Publish"),
    (serve, "Publish"),
    (app_verb, "Publish"),
    (demo, "Start"),
):
    _verb = _module.__name__.rpartition(".")[2]
    app.command(_verb, epilog=_module.EXAMPLES, rich_help_panel=_panel)(getattr(_module, _verb))


def grammars(program: Any = None) -> Mapping[str, Grammar]:
    """What each verb accepts, read off the built program so that the two cannot drift apart; None builds hf-free's."""
    built: Any = program or typer.main.get_command(app)
    found = {}
    for verb, command in built.commands.items():
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        lists = {flag for option in options if option.multiple for flag in option.opts}
        found[verb] = Grammar(
            lists=frozenset(lists - _INTEGER_LISTS),
            integer_lists=frozenset(lists & _INTEGER_LISTS),
            values=frozenset(flag for option in options if not option.is_flag for flag in option.opts) - lists,
            switches=frozenset(
                flag for option in options if option.is_flag for flag in (*option.opts, *option.secondary_opts)
            )
            | {"--help", "-h"},
            positionals=None if any(argument.nargs == -1 for argument in arguments) else len(arguments),
            hint=_HINTS.get(verb, ""),
            bare={flag: _BARE[flag] for flag in lists & _BARE.keys()},
        )
    return found


def main(arguments: Sequence[str] | None = None, program: typer.Typer = app) -> int:
    """Run the program.

    Args:
        arguments: The words after the program's name; None for those of this process.
        program: The verbs.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    typed = list(words)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where its fonts are cached is nobody's business here
    # what Pillow says of a broken EXIF block, which is passed over (docs/guides/command-line.md)
    warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning, r"PIL\.")
    # what the Hub's client says before a download to a full disk, which then fails with a message of ours
    warnings.filterwarnings("ignore", "Not enough free disk space to download the file", UserWarning)
    replace_closed_streams()
    speak_plainly(sys.stdout, sys.stderr)
    words, debug = _take(words, "--debug")
    debug = debug or os.environ.get("HF_FREE_DEBUG", "0") not in ("", "0")
    words, offline = _take(words, "--offline")
    if offline:  # read when the Hub's client is imported, which no verb has done yet
        os.environ["HF_HUB_OFFLINE"] = "1"
    wait_briefly()
    if not debug and os.environ.get("WORLD_SIZE", "1") != "1":  # before torch is imported, which reads it then
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else it shows the stack where another process has gone
    try:
        _check_environment()
        command = typer.main.get_command(program)  # once: it looks at the signatures of all verbs, a tenth of a second
        if _COMPLETION_VARIABLE not in os.environ:
            words = rewrite(words, grammars(command))
        # Of several processes each is ended by its launcher, which waits for no cleaning up.
        with said_once(), nullcontext() if _rank() else ended_in_order():
            command(args=words, prog_name="hf-free", complete_var=_COMPLETION_VARIABLE, obj=typed)
    except EndedBySignal as ended:
        _say_interrupted()
        return ended.status
    except SystemExit as finished:  # how Typer ends, after usage errors and --help too
        if isinstance(finished.__context__, BrokenPipeError):  # such as `| head -1`: quietly, as `cat` and git do
            return _NOBODY_READS
        if (foreign := _ended_by(finished)) is not None:
            return _report(foreign, debug=debug)
        if isinstance(getattr(finished.__context__, "__cause__", None), KeyboardInterrupt):  # Typer's end at Ctrl-C
            _say_interrupted()
        return finished.code if isinstance(finished.code, int) else 0
    except Interrupted as interrupted:
        _say_interrupted(f" {interrupted}")
        return interrupted.code
    except KeyboardInterrupt:  # before a verb has begun
        _say_interrupted()
        return 128 + signal.SIGINT
    except Exception as error:
        return _report(error, debug=debug)
    return 0


def _say_interrupted(more: str = "") -> None:
    """That a signal has ended the command, once for all of its processes."""
    if not _rank() or Launched.here().is_first:
        progress_console().print(plain(f"Interrupted.{more}"), soft_wrap=True)


def _ended_by(finished: SystemExit) -> HfFreeError | None:
    """The error where code of the user's own or of a library has ended a verb, such as a network with `sys.exit()`;
    None for Typer's own end."""
    last = list(traceback.walk_tb(finished.__traceback__))[-1:]
    if not last or str(last[0][0].f_globals.get("__name__")).partition(".")[0] in ("click", "typer", "hf_free"):
        return None
    frame, line = last[0]
    return HfFreeError(
        f"{frame.f_code.co_filename}, line {line}, has ended the command: SystemExit: {finished.code}",
        allowed="code that ends no process; what was saved before is whole",
        action="take sys.exit() and the like out of it, where it is your own",
    )


def _report(error: Exception, *, debug: bool) -> int:
    """Show an error; the exit code."""
    replace_closed_streams("stderr")
    if isinstance(error, FailedElsewhere):
        return 1
    problem = error if isinstance(error, HfFreeError) else _output_problem(error) or storage_problem(error)
    if debug and (problem is None or problem is error):
        _show_traceback()
    if problem is None:
        _show_unexpected(error, of=_rank())
    else:
        show_error(problem, of=_rank())
    return 2 if isinstance(error, UsageError) else 1


def _output_problem(error: Exception) -> HfFreeError | None:
    """The message where stdout could not be written to; None where something else failed.

    Such an error names no file; what raised it is one of those who write there.
    """
    if isinstance(error, ValueError) and sys.stdout.closed and "closed file" in str(error):
        return HfFreeError(
            "the results cannot be written to stdout: something has closed it meanwhile",
            allowed="code that leaves stdout open",
            action="take sys.stdout.close() and the like out of it, where it is your own; what was saved is whole",
        )
    trace = list(traceback.walk_tb(error.__traceback__))
    last = str(trace[-1][0].f_globals.get("__name__")) if trace else ""
    prints = last == output_console.__module__ or last.partition(".")[0] in ("rich", "click", "typer")
    if not isinstance(error, OSError) or error.filename is not None or not prints:
        return None
    return HfFreeError(
        f"the results cannot be written to stdout: {(error.strerror or 'it fails').lower()}",
        allowed="a terminal, a pipe, or a file with space for them",
        action="send them elsewhere, or give --output where the verb has it; what was saved is whole",
    )


def _check_environment() -> None:
    """Refuse what libraries would end with: huggingface_hub for a number or an address that is none, MKL where the
    working folder was removed.

    Raises:
        ConfigError: one of these.
        HubError: the address.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ConfigError(
            "the folder that hf-free was started in is gone",
            allowed="one that is there",
            action="cd to another folder",
        ) from None
    if "MPLBACKEND" in os.environ:  # no window is ever opened, and a name that is none ends matplotlib's import
        os.environ["MPLBACKEND"] = "agg"
    check_address(os.environ.get("HF_ENDPOINT"))
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        text = os.environ.get(name, "0")
        if text and not text.strip().isdecimal():
            raise ConfigError(
                f"the environment variable {name} is {text!r}", allowed="whole seconds", action="unset it"
            )


def _take(words: list[str], switch: str) -> tuple[list[str], bool]:
    """Take a switch out of the words before `--`, wherever it stands; the others, and whether it was there."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != switch]
    return kept + words[end:], len(kept) < end


def _show_traceback() -> None:
    """The traceback of the error at hand, without signed addresses and tokens: people paste it into issues."""
    progress_console().print(plain(without_secrets(traceback.format_exc())), soft_wrap=True)


def _rank() -> str:
    """Which of a run's processes this is, in words; empty for the only one."""
    try:
        here = Launched.here()
    except HfFreeError:
        return ""
    return str(here) if here.count > 1 else ""


def _is_out_of_memory(error: Exception) -> bool:
    """As the library sees it; Python's own is known without torch, which not every verb loads."""
    if isinstance(error, ImportError) and "failed to map segment" in str(error):  # the loader's, of a library
        return True
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from hf_free.runtime.device import is_out_of_memory

    return is_out_of_memory(error)


def _no_memory(error: Exception) -> HfFreeError:
    detail = " ".join(without_secrets(error).split())[:300]
    return HfFreeError(
        f"this takes more memory than there is{f' ({detail})' if detail else ''}",
        allowed="what fits into memory, or below the limit that is set for it (ulimit -v)",
        action="end other programs, raise the limit, or take fewer or smaller pictures and networks",
    )


def _show_unexpected(error: Exception, *, of: str = "") -> None:
    if _is_out_of_memory(error):
        show_error(_no_memory(error), of=of)
        return
    detail = " ".join(without_secrets(error).split())
    message = Text.assemble(
        plain(f"{of}: " if of else ""), ("Unexpected error: ", "bold red"), plain(f"{type(error).__name__}: {detail}")
    )
    message.append(
        "\n  to do:   run again with --debug and report the traceback, with `pip list`, on the project's issue tracker"
    )
    progress_console().print(message, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
