"""Finds code in a Python file that runs only on Linux, or differs between systems, from its syntax tree."""

import ast
import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Opener:
    """A function that opens a file: the positions of mode and encoding in its arguments, and its default mode."""

    mode_at: int
    encoding_at: int | None
    mode: str = "r"
    needs_t: bool = False  # text needs a t; for others bytes need a b


OPENERS = {
    "open": Opener(1, 3),
    "io.open": Opener(1, 3),
    "os.fdopen": Opener(1, 3),
    "gzip.open": Opener(1, 3, "rb", needs_t=True),
    "bz2.open": Opener(1, 3, "rb", needs_t=True),
    "lzma.open": Opener(1, None, "rb", needs_t=True),
    "tempfile.TemporaryFile": Opener(0, 2, "w+b"),
    "tempfile.NamedTemporaryFile": Opener(0, 2, "w+b"),
    "tempfile.SpooledTemporaryFile": Opener(1, 3, "w+b"),
}
OF_PATHS = Opener(0, 2)  # as in `path.open`
OF_SOCKETS = Opener(0, None)
# Functions that always read or write text, and the position of the encoding in their arguments.
TEXT = {
    "read_text": 0,
    "write_text": 1,
    "open_text": 2,
    "TextIOWrapper": 1,
    "FileHandler": 2,
    "RotatingFileHandler": 4,
    "TimedRotatingFileHandler": 4,
    "WatchedFileHandler": 2,
    "FileInput": None,
    "loadtxt": None,
    "genfromtxt": None,
    "savetxt": None,
}
WRITE_TEXT = {"write_text"}
# Functions whose output is text on request, and those that return text in the locale's encoding.
PROCESSES = {"run", "Popen", "check_output", "check_call", "call", "getoutput", "getstatusoutput"}
ALWAYS_OF_THE_LOCALE = {"os.popen", "codecs.open", "fileinput.input", "locale.getpreferredencoding"}
# Objects with a method `open` that are not paths.
NO_PATHS = {"av", "self.av", "import_av()", "lmdb", "self", "self.source", "os"}
POSIX_MODULES = re.compile(
    r"crypt|curses|fcntl|grp|nis|ossaudiodev|posix|pty|pwd|readline|resource|spwd|syslog|termios|tty"
)
WINDOWS_MODULES = re.compile(r"_winapi|msvcrt|nt|winreg|winsound")
POSIX_OS = re.compile(
    r"chown|chroot|fchmod|fchown|fork|forkpty|getegid|geteuid|getgid|getgroups|getloadavg|getpgid|getpgrp|"
    r"getpriority|getsid|getuid|initgroups|killpg|lchown|lockf|mkfifo|mknod|nice|openpty|posix_fadvise|"
    r"posix_fallocate|pread|preadv|pwrite|pwritev|register_at_fork|sched_getaffinity|sched_setaffinity|sendfile|"
    r"setegid|seteuid|setgid|setpgid|setsid|setuid|statvfs|sync|tcgetpgrp|ttyname|uname|wait|wait3|wait4|"
    r"O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC|O_DIRECT"
)
POSIX_SIGNALS = re.compile(r"SIGALRM|SIGCHLD|SIGCONT|SIGHUP|SIGKILL|SIGPIPE|SIGQUIT|SIGSTOP|SIGUSR1|SIGUSR2|SIGXFSZ")
NEVER = {  # and what to use instead
    "os.rename": "use os.replace",
    "os.renames": "use os.replace",
    "shutil.move": "use os.replace",
    "os.fork": "start a process",
    "os.forkpty": "start a process",
}
SPLITS = {"split", "rsplit", "partition", "rpartition"}


@dataclass(frozen=True)
class Finding:
    """Code that differs between systems: its line and a description."""

    line: int
    what: str


def portability_findings(source: str) -> list[Finding]:
    """Returns the findings in a file's source, in the order of their lines."""
    tree = ast.parse(source)
    checker = _Checker(_imported(tree))
    checker.visit(tree)
    return sorted(set(checker.findings), key=lambda finding: finding.line)


def _imported(tree: ast.Module) -> dict[str, str]:
    """Returns the full name that each imported name refers to."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


@dataclass
class _Checker(ast.NodeVisitor):
    imported: dict[str, str]
    findings: list[Finding] = field(default_factory=list)
    guarded: frozenset[str] = frozenset()  # modules and functions whose absence is handled at the current node
    aliases: dict[str, list[str]] = field(default_factory=dict)  # names that refer to one or several openers

    def found(self, node: ast.AST, what: str):
        self.findings.append(Finding(node.lineno, what))

    def name(self, node: ast.expr) -> str:
        """Returns the full name of an expression, such as `os.path.join`."""
        base, dot, rest = ast.unparse(node).partition(".")
        return self.imported.get(base, base) + dot + rest

    # Guards

    def visit_Try(self, node: ast.Try):
        types = [handler.type or ast.Name("Exception") for handler in node.handlers]
        caught = {ast.unparse(part) for of_handler in types for part in ast.walk(of_handler)}
        self._guarded_by(
            {"import"} if caught & {"ImportError", "ModuleNotFoundError", "Exception"} else set(), node.body
        )
        for part in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(part)

    def visit_If(self, node: ast.If):
        self.visit(node.test)
        self._guarded_by(_tested(node.test), node.body)
        for part in node.orelse:
            self.visit(part)

    def visit_IfExp(self, node: ast.IfExp):
        self.visit(node.test)
        self._guarded_by(_tested(node.test), [node.body])
        self.visit(node.orelse)

    def _guarded_by(self, names: set[str], body: list):
        before, self.guarded = self.guarded, self.guarded | names
        for part in body:
            self.visit(part)
        self.guarded = before

    # Modules and functions of one system

    def visit_Import(self, node: ast.Import):
        for alias in node.names:
            self._module(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom):
        if not node.level:
            self._module(node, node.module or "")
            for alias in node.names:
                self._attribute(node, f"{node.module}.{alias.name}")

    def _module(self, node: ast.stmt, module: str):
        of_one_system = any(names.fullmatch(module.split(".")[0]) for names in (POSIX_MODULES, WINDOWS_MODULES))
        if of_one_system and "import" not in self.guarded:
            self.found(node, f"{module} is not on every system: import it in a try, with another way")

    def visit_Attribute(self, node: ast.Attribute):
        self._attribute(node, self.name(node))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name):
        self._attribute(node, self.imported.get(node.id, node.id))
        if self.imported.get(node.id, node.id) in ("open", "io.open"):
            self.found(node, "open is passed on: call it with its encoding")

    def _attribute(self, node: ast.AST, name: str):
        if name in NEVER:
            self.found(node, f"{name}: {NEVER[name]}")
        base, _, last = name.partition(".")
        names = {"os": POSIX_OS, "signal": POSIX_SIGNALS}.get(base)
        is_posix = names is not None and names.fullmatch(last) is not None
        if is_posix and name not in NEVER and last not in self.guarded:
            self.found(node, f"{name} is not on every system: use it where hasattr finds it")

    # Files

    def visit_Assign(self, node: ast.Assign):
        if openers := self._openers(node.value):
            self.aliases |= {target.id: openers for target in node.targets if isinstance(target, ast.Name)}
        else:
            self.generic_visit(node)

    def _openers(self, node: ast.expr) -> list[str]:
        """Returns the functions that an expression may refer to, if all of them open files."""
        if isinstance(node, ast.IfExp):
            found = [self._openers(node.body), self._openers(node.orelse)]
            return [*found[0], *found[1]] if all(found) else []
        if isinstance(node, ast.Name) and node.id in self.aliases:
            return self.aliases[node.id]
        return [self.name(node)] if isinstance(node, (ast.Name, ast.Attribute)) and self.name(node) in OPENERS else []

    def visit_Call(self, node: ast.Call):
        for opener in (openers := self._openers(node.func)):
            self._opens(node, OPENERS[opener])
        if isinstance(node.func, ast.Attribute):
            self._method(node, node.func)
        if isinstance(node.func, (ast.Name, ast.Attribute)) and not openers:
            self._function(node, self.name(node.func))
        for part in (*node.args, *node.keywords, *([] if openers else [node.func])):
            self.visit(part)

    def _method(self, node: ast.Call, func: ast.Attribute):
        of = ast.unparse(func.value)
        if func.attr == "open" and self.name(func) not in {*OPENERS, *ALWAYS_OF_THE_LOCALE} and of not in NO_PATHS:
            self._opens(node, OF_PATHS)
        elif func.attr == "makefile":
            self._opens(node, OF_SOCKETS)
        elif func.attr == "rename" and len(node.args) == 1 and not node.keywords:
            self.found(node, f"{of}.rename: use replace, as Windows renames over no file")
        elif func.attr in SPLITS and [ast.unparse(part) for part in node.args[:1]] in (["'/'"], ["'\\\\'"]):
            self.found(node, f"{ast.unparse(node)}: take a path apart by pathlib")

    def _function(self, node: ast.Call, name: str):
        last = name.rpartition(".")[2]
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        is_method = isinstance(node.func, ast.Attribute)
        if name in ALWAYS_OF_THE_LOCALE:
            self.found(node, f"{name} reads or writes in the locale's encoding: use another function")
        elif last in TEXT and (is_method or name != last):  # not a function of the project
            self._states_encoding(node, TEXT[last])
            if last in WRITE_TEXT:
                self._states_newline(node, given)
        elif name == "logging.basicConfig" and "filename" in given:
            self._states_encoding(node, None)
        elif name.startswith("subprocess.") and last in PROCESSES:
            says = [given[word] for word in ("text", "universal_newlines") if word in given]
            if last.startswith("get") or any(ast.unparse(value) not in ("False", "None") for value in says):
                self._states_encoding(node, None)
        elif last in ("get_context", "set_start_method") and any(ast.unparse(part) == "'fork'" for part in node.args):
            self.found(node, "Windows has no fork: start processes by spawn")

    def _opens(self, node: ast.Call, opener: Opener):
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        positional = node.args[opener.mode_at] if len(node.args) > opener.mode_at else ast.Constant(opener.mode)
        stated = given.get("mode", positional)
        is_known = isinstance(stated, ast.Constant)
        if is_known and not ("t" in stated.value if opener.needs_t else "b" not in stated.value):
            return
        self._states_encoding(node, opener.encoding_at)
        if not is_known or not set("wax+").isdisjoint(stated.value):
            self._states_newline(node, given)

    def _states_encoding(self, node: ast.Call, position: int | None):
        if position is not None and len(node.args) > position:
            return
        stated = {keyword.arg: keyword.value for keyword in node.keywords}.get("encoding")
        if stated is None or ast.unparse(stated) in ("None", "'locale'"):
            self.found(node, f"{ast.unparse(node.func)} states no encoding: give encoding='utf-8'")

    def _states_newline(self, node: ast.Call, given: dict):
        if "newline" not in given:
            self.found(node, f"{ast.unparse(node.func)} writes other line ends on Windows: give newline")


def _tested(test: ast.expr) -> set[str]:
    """Returns the names whose existence a condition tests, as in `hasattr(os, "setsid")`."""
    return {
        call.args[1].value
        for call in ast.walk(test)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "hasattr" and isinstance(call.args[1], ast.Constant)
    }
