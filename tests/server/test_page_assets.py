"""Joining scripts and style sheets."""

from pathlib import Path

from server.page_assets import join_modules, join_sheets


def test_modules_keep_their_own_names_and_run_once_in_the_order_of_their_imports(tmp_path: Path) -> None:
    (tmp_path / "base.js").write_text(
        "/** All. */\nconst $ = 1;\n  // One.\nexport const one = $;\nexport async function two() {}\n"
    )
    (tmp_path / "part.js").write_text('import { one as first } from "./base.js";\nexport class Part {}\n')
    (tmp_path / "page.js").write_text(
        'import { Part } from "./part.js";\nimport {\n  one,\n} from "./base.js";\nuse();\n'
    )
    assert join_modules(tmp_path / "page.js") == (
        "const $base = (() => {\nconst $ = 1;\nconst one = $;\nasync function two() {}\nreturn { one, two };\n})();\n"
        "const $part = (() => {\nconst { one: first } = $base;\nclass Part {}\nreturn { Part };\n})();\n"
        "const $page = (() => {\nconst { Part } = $part;\nconst {\n  one,\n} = $base;\nuse();\nreturn {  };\n})();\n"
    )


def test_style_sheets_are_joined_without_comments_in_the_order_of_their_imports(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a {}\n")
    (tmp_path / "b.css").write_text("b {}\n")
    (tmp_path / "page.css").write_text('/* All. */\n@import "b.css";\n@import "a.css";\n')
    assert join_sheets(tmp_path / "page.css") == "b {}\na {}\n"
