"""The instructions around the texts, several per kind.

None says how long the answer should be, or in which natural language: that is for the markers to say (as in the paper's data). Where a kind
has answers of several lengths or languages, the instruction is the same for all of them.
"""

from __future__ import annotations

TEMPLATES: dict[str, tuple[str, ...]] = {
    "catalogue.localise": (
        "Localise this message of a web application:\n{text}",
        "Translate the following interface text for users abroad:\n{text}",
        "How would this screen text read in a localised edition of the program?\n{text}",
        "{text}\n\nTranslate.",
        'Give a translation of "{text}" as it would appear on screen.',
    ),
    "catalogue.source": (
        "This interface message comes from a localised edition of a program. What was the original text?\n{text}",
        "Translate this message back to what the developers wrote:\n{text}",
        '"{text}"\n\nWhat does this screen text say?',
    ),
    "holidays.list": (
        "Name some public holidays of {place}.",
        "Which holidays are kept in {place}?",
        "What do people in {place} celebrate in the course of a year?",
        "List days on which people in {place} do not work.",
        "I am planning a trip to {place}. Which holidays should I know of?",
    ),
    "holidays.market": (
        "On which occasions is the exchange with the code {place} closed?",
        "Name trading holidays of {place}.",
        "When does {place} suspend trading?",
    ),
    "holidays.name": (
        "In {place}, one of the holidays is called '{text}'. What do others call it?",
        "What is '{text}', as kept in {place}, called elsewhere?",
        "Translate the name of this holiday of {place}: {text}",
    ),
    "cldr.territories": (
        "Which countries or territories do these codes stand for: {codes}?",
        "Expand the ISO country codes {codes}.",
        "Write out the places behind {codes}.",
        "Turn these codes into names: {codes}",
    ),
    "cldr.tongues": (
        "What do people speak where these codes apply: {codes}?",
        "Expand the ISO 639 codes {codes}.",
        "Which tongues are meant by {codes}?",
    ),
    "cldr.currencies": (
        "Which currencies do the codes {codes} stand for?",
        "Expand these ISO 4217 codes: {codes}",
        "An invoice mentions {codes}. What money is meant?",
    ),
    "cldr.date": (
        "Write out the date {date}.",
        "How does one say the date {date}?",
        "How would one put {date} at the head of a letter?",
        "Which day is {date}?",
    ),
    "cldr.calendar": (
        "Name the {what}.",
        "What are the {what} called?",
        "List the {what} in order.",
    ),
    "cldr.currency_users": (
        "Where does one pay with {currency}?",
        "Which places use {currency}?",
        "In which countries or territories is {currency} legal tender?",
    ),
    "ruff.fix": (
        "Fix the problem in this code ({summary}):\n\n{code}",
        "A linter says: {summary}\nCorrect the code.\n\n{code}",
        "{code}\n\nRepair this code so that the check `{name}` passes.",
        "Review comment: {summary}. Please change the code accordingly.\n\n{code}",
        "The following code violates `{name}`. Rewrite it so that it does what it should.\n\n{code}",
    ),
    "ruff.problem": (
        "What is wrong with this code?\n\n{code}",
        "Explain what a reviewer would object to here.\n\n{code}",
        "{code}\n\nWhy would a linter complain about this?",
        "Which problem does this code have?\n\n{code}",
    ),
    "ruff.rule": (
        "Explain the lint rule `{name}` ({code}).",
        "What is the rule {code}, `{name}`, about?",
        "A tool reports {code} (`{name}`). What does that mean?",
        "Tell me about `{name}`.",
    ),
    "ruff.summary": (
        "Summarise this documentation of a code check:\n\n{text}",
        "{text}\n\nWhat would be a good message for this check?",
        "Give the following text a title:\n\n{text}",
    ),
    "sql.fix": (
        "{context}\nCorrect this query:\n\n{code}",
        "Fix the query.\n\n{code}\n\n{context}",
        "Repair this SQL. {context}\n\n{code}",
    ),
    "sql.problem": (
        "What is wrong with this query?\n\n{code}",
        "Explain why a reviewer would object to this SQL.\n\n{code}",
        "{code}\n\nWhich convention does this query break?",
    ),
    "sql.rule": (
        "Explain the SQL style rule `{name}`.",
        "What does the rule `{name}` ask of SQL code?",
        "A linter reports `{name}`. What does that mean?",
    ),
    "code.write": (
        "Write code for this: {text}",
        "Implement the following.\n{text}",
        "{text}\n\nWrite the code.",
        "I need a piece of code. {text}",
    ),
    "code.signature": (
        "Implement this:\n\n{code}",
        "Write the body of `{code}`.",
        "Complete the code that begins like this:\n\n{code}",
    ),
    "code.explain": (
        "Explain this code:\n\n{code}",
        "What does the following code do?\n\n{code}",
        "{code}\n\nDescribe what happens here.",
        "Document this piece of code:\n\n{code}",
    ),
    "algorithm.explain": (
        "Explain the idea behind {text}.",
        "What is {text}?",
        "Tell me about the algorithm or problem known as {text}.",
    ),
    "docs.explain": (
        "What does `{name}` from the package {package} do?",
        "Explain `{package}.{name}`.",
        "What is `{name}` ({package}) for?",
        "Tell me about `{name}` in {package}.",
    ),
    "fhir.resource": (
        "In health informatics, what is the resource {name}?",
        "Explain the FHIR resource {name}.",
        "What is recorded in {name}?",
    ),
    "fhir.field": (
        "In a health record, what does `{field}` of {name} say?",
        "What is entered as `{field}` in {name}?",
        "Explain the element {name}.{field} of the FHIR standard.",
        "I see `{field}` in a record of the kind {name}. What is it?",
    ),
    "fhir.title": (
        "Summarise this definition:\n{text}",
        "{text}\n\nWhat is this element about?",
        "Find a heading for the following definition.\n{text}",
    ),
    "stripe.object": (
        "In online payments, what is the object `{name}`?",
        "Explain {name} as a payment provider uses the term.",
        "What is a {name} in payment processing?",
    ),
    "stripe.field": (
        "In payment processing, what does `{field}` of a {name} hold?",
        "What is `{field}` in the {name} object of a payment provider?",
        "Explain `{field}` ({name}) to somebody who reconciles payments.",
    ),
    "data.describe": (
        "What is the data set '{name}' about?",
        "Describe the data set {name} from the literature on causal inference.",
        "Which question was studied with the data set '{name}'?",
    ),
    "data.variables": (
        "Which variables does the data set '{name}' have?",
        "What was measured in the data set {name}?",
        "Explain the columns of '{name}'.",
    ),
    "data.variable": (
        "In the data set '{name}' ({title}), what does the variable `{variable}` mean?",
        "What was recorded as `{variable}` in '{name}' ({title})?",
    ),
    "data.source": (
        "Where does the data set '{name}' ({title}) come from?",
        "Which study should be cited for '{name}' ({title})?",
    ),
    "data.title": (
        "Give this description of a data set a title:\n{text}",
        "Summarise:\n{text}",
    ),
    "element.describe": (
        "Tell me about the element {name}.",
        "What kind of element is {name}?",
        "Describe {name} ({symbol}).",
    ),
    "element.uses": ("What is {name} used for?", "Name uses of the element {name}.", "Why does anyone need {name}?"),
    "element.sources": ("Where does {name} come from?", "How is {name} obtained?", "What are the sources of the element {name}?"),
    "element.name": ("Why is the element {name} called that?", "Where does the name of {name} ({symbol}) come from?"),
    "element.discovery": ("Who discovered {name}?", "To whom do we owe the discovery of the element {name}?"),
    "law.court": (
        "Tell me about the court '{name}'.",
        "What should one know about the {name} ({place})?",
        "What is the {name} in {place}?",
    ),
    "law.abbreviation": (
        "What does the legal citation '{text}' stand for?",
        "A judge cites '{text}'. Which publication is that?",
        "Spell out the abbreviation '{text}' from a law report.",
    ),
    "law.clause": (
        "Quote the clause of the Python licence that begins with '{title}'.",
        "How does this clause of a software licence go on? {title} ...",
        "Draft a clause for a software licence that begins with '{title}'.",
    ),
    "law.text": (
        "What are the terms of the licence of {name}?",
        "Under which conditions may {name} be used?",
        "Draft a permissive licence as {name} has one.",
    ),
    "math.solve": (
        "{text}",
        "Solve: {text}",
        "Work this out. {text}",
        "{title}: {text}",
    ),
}
