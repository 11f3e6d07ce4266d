"""From a request of the API to one for the engine: modes, markers, limits, as the deployment allows."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from tailmark import quality
from tailmark.config.serving import Serve, ServeMode
from tailmark.errors import DataError, TailmarkError, TaxonomyError
from tailmark.generate.modes import Messages, Mode, Tagger, check_markers, requests_for
from tailmark.generate.request import LIST_TOKENS, Request, Sampling
from tailmark.measure.lengths import with_bucket
from tailmark.serve.engine import Work
from tailmark.serve.errors import APIError, refused
from tailmark.serve.models import Served
from tailmark.serve.schema import ChatRequest, Sampled, TextRequest
from tailmark.taxonomy import MarkerValue

_TAKE_NONE = (Mode.ABSENT, Mode.INFERRED, Mode.ON_THE_FLY)
_SYSTEM = {"developer": "system"}
"""OpenAI's newer name of a role that chat templates know under the older one."""


class Asking:
    """Makes work of requests.

    Args:
        tagger: reads the markers of a prompt where the mode is on-the-fly (None: there is no annotator here).
    """

    def __init__(self, options: Serve, tagger: Tagger | None = None) -> None:
        self.options, self._tagger = options, tagger
        self._tagging = asyncio.Lock()

    @property
    def usual_tokens(self) -> int:
        """Most tokens of an answer where a request does not say."""
        return min(self.options.default_new_tokens, self.options.max_new_tokens)

    def constrained(self, served: Served, asked: bool | None = None) -> bool:
        """Whether lists are held to the taxonomy, where a request says `asked`."""
        wanted = self.options.constrained if asked is None else asked
        return "constrained" in served.engine.listings if wanted is None else wanted

    def modes(self, served: Served) -> list[ServeMode]:
        """The modes that can be asked for."""
        listings = served.engine.listings
        needs = {Mode.ABSENT: "absent" in listings, Mode.FORCED: "constrained" in listings, Mode.ON_THE_FLY: self._tagger is not None}
        return [mode for mode in self.options.modes if needs.get(Mode(mode), True)]

    def defaults(self, served: Served) -> dict[str, MarkerValue]:
        """The deployment's markers, as far as the model knows them."""
        known = {name: value for name, value in self.options.markers.items() if name in served.info.markers}
        return check_markers(known, served.taxonomy, served.info.markers, where="serve.markers")

    def allowed(self, served: Served) -> list[str]:
        """The markers that requests may set."""
        return [name for name in served.info.markers if self.options.override is None or name in self.options.override]

    async def chat(self, body: ChatRequest, served: Served) -> Work:
        """The work that a conversation is.

        Raises:
            APIError: it cannot be done as asked.
        """
        messages = _messages(body)
        request = await self._request(body, messages, served)
        try:
            prompt, tokens = await asyncio.to_thread(served.prompts.of_conversation, messages, request.markers)
        except DataError as error:
            raise refused(error, "messages") from None
        return self._work(body, request, prompt, tokens, served)

    async def text(self, body: TextRequest, served: Served) -> Work:
        """The work that a text is."""
        request = self._sampled(Request([{"role": "user", "content": body.prompt}]), body)
        prompt, tokens = await asyncio.to_thread(served.prompts.of_text, body.prompt)
        return self._work(body, request, prompt, tokens, served)

    async def _request(self, body: ChatRequest, messages: Messages, served: Served) -> Request:
        given = _given(body)
        markers = self._markers(given, served)
        mode = self._mode(body, markers, served)
        if mode in _TAKE_NONE and any(value is not None for value in given.values()):
            raise _bad(f"Mode {mode} takes no markers. Leave them out, or use fixed or forced.", "markers")
        if mode in (Mode.FIXED, Mode.FORCED) and not markers:
            raise _bad(f'Mode {mode} needs markers, e.g. {{"lang": "French"}}.', "markers")
        if mode is Mode.ON_THE_FLY:
            markers = {**self.defaults(served), **await self._tagged(messages, served)}
        constrained = self.constrained(served, body.constrained)
        if constrained and "constrained" not in served.engine.listings:
            raise _bad("This engine or model cannot hold lists to the taxonomy. Leave `constrained` out.", "constrained")
        request = requests_for(
            Mode.FIXED if mode is Mode.ON_THE_FLY else mode, [messages], markers=[self._implied(markers, served)],
            constrained=constrained and served.info.writes_markers,
        )[0]  # fmt: skip
        return self._sampled(request, body)

    def _markers(self, given: Mapping[str, Any], served: Served) -> dict[str, MarkerValue]:
        """The deployment's markers with the request's over them."""
        try:
            asked = check_markers(
                {name: value for name, value in given.items() if value is not None}, served.taxonomy, served.info.markers, where="markers"
            )
        except TaxonomyError as error:
            raise refused(error, "markers", "unknown_marker") from None
        allowed = self.allowed(served)
        if barred := sorted(name for name in given if name in served.info.markers and name not in allowed):
            raise _bad(f"Requests may not set '{barred[0]}' here. They may set: {', '.join(allowed) or 'none'}.", "markers", "not_allowed")
        defaults = {name: value for name, value in self.defaults(served).items() if name not in given}
        return {**defaults, **asked}

    def _mode(self, body: ChatRequest, markers: Mapping[str, MarkerValue], served: Served) -> Mode:
        if not served.info.markers:  # the baseline
            if body.mode not in (None, Mode.ABSENT, Mode.INFERRED):
                raise _bad(f"'{served.name}' was trained without markers: it has no mode {body.mode}.", "mode")
            return Mode.INFERRED
        usual = Mode(self.options.mode or Mode.FIXED)
        if usual in (Mode.FIXED, Mode.FORCED) and not markers:
            usual = Mode.INFERRED
        mode = Mode(body.mode or usual)
        if mode not in self.modes(served):
            known = ", ".join(self.modes(served))
            raise _bad(f"Mode {mode} cannot be asked for here. Use one of: {known}.", "mode", "not_allowed")
        return mode

    async def _tagged(self, messages: Messages, served: Served) -> dict[str, MarkerValue]:
        """What the tagger says, as far as the model was trained with it. One prompt at a time: a tagger may ask an endpoint."""
        assert self._tagger is not None
        try:
            async with self._tagging:
                found = (await asyncio.to_thread(self._tagger, [messages]))[0]
        except TailmarkError as error:
            raise APIError(HTTPStatus.SERVICE_UNAVAILABLE, f"The annotator does not answer: {error.what}", "annotator", "mode") from error
        known = {name: value for name, value in found.items() if name in served.info.markers}
        return {name: value for name, value in known.items() if served.taxonomy.allows(name, value)}

    def _implied(self, markers: dict[str, MarkerValue], served: Served) -> dict[str, MarkerValue]:
        markers = with_bucket(markers, served.taxonomy, served.info.markers)
        return quality.with_quality(markers, served.percentiles) if quality.SCORE in served.info.markers else markers

    def _sampled(self, request: Request, body: Sampled) -> Request:
        temperature = self.options.temperature if body.temperature is None else body.temperature
        seed = body.seed if body.seed is not None else secrets.randbits(63) if temperature else 0
        return replace(request, sampling=Sampling(temperature, 1.0 if body.top_p is None else body.top_p, seed), stop=body.stops)

    def _work(self, body: Sampled, request: Request, prompt: str, tokens: list[int], served: Served) -> Work:
        if (body.most or 0) > self.options.max_new_tokens:
            raise _bad(f"At most {self.options.max_new_tokens} tokens of an answer can be asked for.", "max_tokens")
        most = self.options.max_prompt_tokens or served.context
        listed = LIST_TOKENS if served.info.writes_markers and request.listing != "absent" else 0
        room = served.context - len(tokens) - listed
        if len(tokens) > most or room < (body.most or 1):
            asked = f" and {body.most} of the answer" if body.most else ""
            fits = f"at most {most} of a prompt are taken, and {served.context} in all, {listed} of them kept for the marker list"
            raise _bad(f"{len(tokens)} tokens of the prompt{asked} are too many: {fits}.", "messages", "context_length_exceeded")
        new = body.most or min(self.usual_tokens, room)
        return Work(request, prompt, tuple(tokens), new)


def _messages(body: ChatRequest) -> list[dict[str, str]]:
    if body.messages[-1].role != "user":
        raise _bad("The last message must be the user's.", "messages")
    turns = [(item.role, item.content) for item in body.messages]
    return [
        {"role": _SYSTEM.get(role, role), "content": text if isinstance(text, str) else "\n".join(part.text for part in text)}
        for role, text in turns
    ]


def _given(body: ChatRequest) -> dict[str, Any]:
    """The request's markers, from whichever of the two fields holds them."""
    passed = body.chat_template_kwargs.markers if body.chat_template_kwargs else None
    if passed is not None and body.markers is not None:
        raise _bad("Markers are given twice: in `markers` and in `chat_template_kwargs`.", "markers")
    if isinstance(passed, list):
        names = [str(name) for name, _ in passed]
        if len(set(names)) < len(names):
            raise _bad("A marker is given twice.", "chat_template_kwargs.markers")
        return dict(zip(names, (value for _, value in passed), strict=True))
    return dict(passed or body.markers or {})


def _bad(message: str, param: str, code: str = "invalid_value") -> APIError:
    return APIError(HTTPStatus.BAD_REQUEST, message, code, param)
