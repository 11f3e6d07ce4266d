"""Problems with their solutions, drawn from mathgenerator with fixed seeds."""

from __future__ import annotations

import random
from collections.abc import Callable

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import locate

PACKAGE = "mathgenerator"
_DRAWS = 12
_MIN_ANSWER = 8

_GENERATORS = """
angle_btw_vectors arc_length arithmetic_progression_sum binomial_distribution combine_like_terms complex_quadratic
conditional_probability confidence_interval data_summary definite_integral factoring factors fibonacci_series
geometric_progression intersection_of_two_lines invert_matrix line_equation_from_2_points linear_equations
matrix_multiplication mean_median midpoint_of_two_points minutes_to_hours multiply_complex_numbers
multiply_int_to_22_matrix power_rule_differentiation power_rule_integration prime_factors
product_of_scientific_notations quadratic_equation set_operation stationary_points system_of_equations vector_cross
"""
"""Those that state a complete question and answer with more than one bare number."""


def examples() -> Examples:
    """A few problems per generator; a problem drawn twice counts once."""
    for _, title, generator, name, _, _ in _generators():
        if name not in _GENERATORS.split():
            continue
        seen: set[str] = set()
        for draw in range(_DRAWS):
            problem, solution = _draw(generator, f"{name}/{draw}")
            if problem not in seen and len(solution) >= _MIN_ANSWER:
                seen.add(problem)
                told = markers("Math", "Reasoning", source="Synthetic", format="Latex" if "$" in solution else None)
                group = f"{PACKAGE}/{name}/{problem}"
                prompt = ask("math.solve", group, {"text": problem.rstrip(" ="), "title": title})
                yield Example(PACKAGE, "math.solve", group, prompt, solution, told)


def _generators() -> list[tuple[int, str, Callable[[], tuple[object, object]], str, str, list[str]]]:
    locate(PACKAGE)
    import mathgenerator  # type: ignore[import-untyped]  # noqa: F401  (it fills the list on import)
    from mathgenerator.generator import getGenList  # type: ignore[import-untyped]

    found: list[tuple[int, str, Callable[[], tuple[object, object]], str, str, list[str]]] = getGenList()
    return found


def _draw(generator: Callable[[], tuple[object, object]], seed: str) -> tuple[str, str]:
    """One problem and its solution; the global generator's state is as before afterwards."""
    state = random.getstate()
    random.seed(seed)
    try:
        problem, solution = generator()
    finally:
        random.setstate(state)
    return str(problem).strip(), str(solution).strip()
