"""Which programming language a program is in: real programs, and texts that only look like one."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from tailmark.measure.code import code_type
from tailmark.measure.programs import _constructs, program_language
from tailmark.taxonomy import load_taxonomy

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
VALUES = set(load_taxonomy(ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml").markers["code_type"].values)

PROGRAMS = {
    "python": ("def area(r):\n    if r < 0:\n        raise ValueError(r)\n    return 3.14 * r ** 2"),
    "javascript": ("const total = (items) => {\n  let sum = 0;\n  items.forEach(i => { sum += i; });\n  console.log(sum);\n};"),
    "typescript": (
        "interface User {\n  name: string;\n  age?: number;\n}\nexport function greet(user: User): string {\n  return user.name;\n}"
    ),
    "cpp": ("#include <iostream>\nint main() {\n  std::vector<int> v;\n  v.push_back(3);\n  std::cout << v.size();\n}"),
    "c": ('#include <stdio.h>\nint main(void) {\n  char *p = malloc(10);\n  printf("%d", p == NULL);\n  free(p);\n}'),
    "java": (
        "import java.util.*;\npublic class Main {\n  public static void main(String[] args) {\n    System.out.println(args.length);\n  }\n}"
    ),
    "csharp": (
        "using System;\nclass P {\n  public string Name { get; set; }\n  static void Main() { Console.WriteLine(new P().Name); }\n}"
    ),
    "go": ('package main\n\nimport "fmt"\n\nfunc main() {\n\tfor i, x := range []int{1, 2} {\n\t\tfmt.Println(i, x)\n\t}\n}'),
    "rust": ('fn main() {\n    let mut v: Vec<i32> = Vec::new();\n    v.push(1);\n    println!("{}", v.iter().sum::<i32>());\n}'),
    "swift": (
        "import Foundation\n"
        "func greet(name: String) -> String {\n"
        '    guard let first = name.first else { return "" }\n'
        '    return "\\(first)"\n'
        "}"
    ),
    "kotlin": ('data class User(val name: String)\n\nfun main() {\n    val users = listOf(User("a"))\n    println(users.size)\n}'),
    "php": ("<?php\n$total = 0;\nforeach ($items as $item) {\n    $total += $item->price;\n}\necho $total;"),
    "shell": ('#!/bin/bash\nfor f in *.txt; do\n  if [ -s "$f" ]; then\n    grep -c foo "$f" | sort\n  fi\ndone'),
    "ruby": ("class Dog\n  attr_reader :name\n  def bark?\n    names.each do |n|\n      puts n\n    end\n  end\nend"),
    "haskell": (
        "module Main where\n"
        "\n"
        "import Data.List (sort)\n"
        "\n"
        "area :: Double -> Double\n"
        "area r = pi * r * r\n"
        "\n"
        "main :: IO ()\n"
        "main = print (area 2)"
    ),
    "sql": ("SELECT name, COUNT(*)\nFROM staff\nWHERE age > 30\nGROUP BY name;"),
    "cobol": (
        "       IDENTIFICATION DIVISION.\n"
        "       PROGRAM-ID. HELLO.\n"
        "       PROCEDURE DIVISION.\n"
        "           DISPLAY 'HELLO'.\n"
        "           STOP RUN."
    ),
}


def test_there_is_a_program_for_every_language_of_the_taxonomy() -> None:
    by_text, others = _constructs()
    assert {item.language for items in by_text.values() for item in items} | {item.language for item in others} == VALUES
    assert set(PROGRAMS) == VALUES


@pytest.mark.parametrize("language", sorted(PROGRAMS))
def test_a_program_fenced_or_not(language: str) -> None:
    assert program_language(PROGRAMS[language]) == language
    assert code_type(f"Here it is:\n\n```\n{PROGRAMS[language]}\n```\n\nThat is all.") == language
    assert code_type(PROGRAMS[language]) == language


@pytest.mark.parametrize(
    "text",
    [
        "Select a book from the shelf, then update your list where it says so.",
        "Import the goods from China; return them if they do not fit.",
        "For each guest in the hall: a chair. While we wait, else we leave.",
        "The function of the class is public. It throws a new exception, and the match ends.",
        "She said (after a while), [sic] that x < y & y > z; and so on {as it were}.",
        "a = 1",
        "f(x) = 2x + 3(x - 1)^2 / (4x)",
        '{"name": "Ann", "age": 3}',
        "<p>One <b>two</b></p>",
    ],
)
def test_no_language_rather_than_a_wrong_one(text: str) -> None:
    assert code_type(text) is None


def test_a_declared_language_holds_over_constructs_and_an_unknown_one_is_not_guessed() -> None:
    assert code_type(f"```java\n{PROGRAMS['python']}\n```") == "java"
    assert code_type(f"```brainfuck\n{PROGRAMS['python']}\n```") is None


@pytest.mark.parametrize("marks", ["```sql\nx\n```\n```\n" + PROGRAMS["go"] + "\n```"])
def test_the_language_of_most_lines_counts(marks: str) -> None:
    assert code_type(marks) == "go"


@pytest.mark.skipif(not DATA.exists(), reason="needs shared/data beside the checkout")
@pytest.mark.parametrize("name", ["python", "java", "js", "go", "cpp", "rust"])
def test_labelled_programs(name: str) -> None:
    found: Counter[str | None] = Counter()
    with gzip.open(DATA / "eval" / f"humanevalpack_{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            found[code_type(row["declaration"] + row["canonical_solution"])] += 1
    label = {"js": "javascript"}.get(name, name)
    assert found[label] > 0.9 * found.total()
    assert set(found) <= {label, None}
