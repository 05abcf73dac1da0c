"""The pages: a route each, from a query string to rows to a template. Reads the store; writes the inbox of reviews alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import parse_qsl

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from selfalign.browse import queries
from selfalign.browse.access import Access, Guard
from selfalign.browse.diff import word_diff
from selfalign.browse.filters import Filters, parse
from selfalign.browse.rows import Facets
from selfalign.errors import BadInput, SelfAlignError
from selfalign.reviews import append, latest, make_review, read
from selfalign.store.catalog import contents
from selfalign.store.sql import read_sql
from selfalign.store.store import Store
from selfalign.types import Review, ReviewDecision
from selfalign.visible import visible
from selfalign.workspace import Workspace

_HERE = Path(__file__).parent
#: Longest wait for a writer, longest query of the SQL box, rows that it shows, characters of a value in it.
_WAIT_S, _SQL_S, _SQL_ROWS, _SQL_TEXT = 10.0, 10.0, 200, 2000
#: Bytes of a form.
_MOST_FORM = 64 * 1024
#: What the filters can be set to is looked up again where the store changed, but not more often.
_FACETS_S = 10.0


@dataclass(frozen=True)
class Missing(Exception):
    """There is no such thing in the store."""

    what: str


class Site:
    """What the pages share: the run, the templates, and what the filters can be set to."""

    def __init__(self, workspace: Workspace, reviewer: str) -> None:
        self.workspace = workspace
        self.reviewer = reviewer
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self.templates.filters.update(
            shown=_shown, cut=_cut, number=_number, short=lambda text: str(text or "")[:12], pretty=_pretty
        )
        self._facets: tuple[float, Any, Facets] | None = None
        self._guard = threading.Lock()

    def store(self) -> Store:
        return Store(self.workspace.store_path, read_timeout=_WAIT_S)

    def reviews(self, store: Store) -> tuple[list[Review], frozenset[str]]:
        """All reviews, oldest first, and the ids of those that are in the store."""
        taken = {review.review_id: review for review in queries.taken_in(store)}
        inbox = {review.review_id: review for review in read(self.workspace.reviews).reviews}
        said = sorted({**taken, **inbox}.values(), key=lambda one: (one.reviewed_at, one.review_id))
        return said, frozenset(taken)

    def facets(self, store: Store) -> Facets:
        state = self.workspace.store_path.stat()
        key = (state.st_mtime_ns, state.st_size)
        with self._guard:
            known = self._facets
        if known is not None and (known[1] == key or time.monotonic() - known[0] < _FACETS_S):
            return known[2]
        found = queries.facets(store)
        with self._guard:
            self._facets = (time.monotonic(), key, found)
        return found

    def page(self, name: str, status: int = 200, **values: Any) -> Response:
        values.setdefault("filters", Filters())
        html = self.templates.get_template(name).render(
            run=self.workspace.path.name, reviewer=self.reviewer, running=self.workspace.holder() is not None, **values
        )
        return HTMLResponse(html, status)


def make_app(workspace: Workspace, access: Access, reviewer: str) -> Starlette:
    """The application over the run at ``workspace``; reviews are signed ``reviewer``."""
    site = Site(workspace, reviewer)

    def page(path: str, handler: Callable[[Site, Request], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            # In a thread: DuckDB does not know of event loops.
            return await run_in_threadpool(_answered, site, request, handler)

        return Route(path, endpoint, methods=["GET"], name=handler.__name__)

    async def review(request: Request) -> Response:
        form = await _form(request)
        return await run_in_threadpool(_answered, site, request, lambda site, request: _review(site, request, form))

    routes = [
        page("/", _overview), page("/pairs", _pairs), page("/pairs/{pair_id}", _pair), page("/prompts", _prompts),
        page("/prompts/{prompt_id}", _prompt), page("/candidates", _candidates),
        page("/candidates/{candidate_id}", _candidate), page("/judgements", _judgements), page("/reviews", _reviews),
        page("/search", _search), page("/sql", _sql), page("/help", _help),
        Route("/pairs/{pair_id}/review", review, methods=["POST"]),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]  # fmt: skip

    async def nothing_here(request: Request, error: Exception) -> Response:
        return site.page("error.html", 404, what="There is no such page.", kind="not found")

    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {404: nothing_here}
    return Starlette(
        routes=routes, exception_handlers=cast(Any, handlers), middleware=[Middleware(Guard, access=access)]
    )


def _answered(site: Site, request: Request, handler: Callable[[Site, Request], Response]) -> Response:
    """A handler's page, or that of its error."""
    try:
        return handler(site, request)
    except Missing as error:
        return site.page("error.html", 404, what=error.what, kind="not found")
    except SelfAlignError as error:
        busy = "has held the store" in str(error)
        return site.page("error.html", 503 if busy else 400, what=str(error), kind="busy" if busy else "refused")


def _filters(request: Request) -> Filters:
    return parse(dict(request.query_params))


# -- reading ------------------------------------------------------------------------------------------------------


def _overview(site: Site, request: Request) -> Response:
    store = site.store()
    with store.read(oldest=queries.OLDEST):
        found = queries.overview(store)
        said, _ = site.reviews(store)
    return site.page("overview.html", overview=found, reviews=len(latest(said)))


def _pairs(site: Site, request: Request) -> Response:
    filters, store = _filters(request), site.store()
    with store.read(oldest=queries.OLDEST):
        said, _ = site.reviews(store)
        found = queries.pairs(store, filters, latest(said))
        facets = site.facets(store)
    return site.page("pairs.html", filters=filters, page=found, facets=facets)


def _pair(site: Site, request: Request) -> Response:
    filters, store = replace(_filters(request), after=None), site.store()
    with store.read(oldest=queries.OLDEST):
        said, taken = site.reviews(store)
        found = queries.pair(store, request.path_params["pair_id"], filters, said, taken)
    if found is None:
        raise Missing(f"There is no pair {request.path_params['pair_id']} in this run.")
    texts = [answer.candidate.text if answer else "" for answer in (found.chosen, found.rejected)]
    return site.page("pair.html", filters=filters, found=found, diff=word_diff(*map(visible, texts)))


def _prompts(site: Site, request: Request) -> Response:
    return _listed(site, request, "prompts.html", queries.prompts)


def _candidates(site: Site, request: Request) -> Response:
    return _listed(site, request, "candidates.html", queries.candidates)


def _judgements(site: Site, request: Request) -> Response:
    return _listed(site, request, "judgements.html", queries.judgements)


def _listed(site: Site, request: Request, template: str, query: Callable[[Store, Filters], Any]) -> Response:
    filters, store = _filters(request), site.store()
    with store.read(oldest=queries.OLDEST):
        found = query(store, filters)
        facets = site.facets(store)
    return site.page(template, filters=filters, page=found, facets=facets)


def _prompt(site: Site, request: Request) -> Response:
    filters, store = _filters(request), site.store()
    with store.read(oldest=queries.OLDEST):
        found = queries.prompt(store, request.path_params["prompt_id"], filters.round, filters.branch)
    if found is None:
        raise Missing(f"There is no prompt {request.path_params['prompt_id']} in this run.")
    return site.page("prompt.html", filters=filters, found=found)


def _candidate(site: Site, request: Request) -> Response:
    filters, store = _filters(request), site.store()
    with store.read(oldest=queries.OLDEST):
        found = queries.candidate(store, request.path_params["candidate_id"], filters.branch)
    if found is None:
        raise Missing(f"There is no candidate {request.path_params['candidate_id']} in this run.")
    answer, asked = found
    return site.page("candidate.html", filters=filters, answer=answer, prompt=asked)


def _reviews(site: Site, request: Request) -> Response:
    store = site.store()
    with store.read(oldest=queries.OLDEST):
        said, taken = site.reviews(store)
        lines = queries.review_lines(store, said, taken)
    unreadable = read(site.workspace.reviews).unreadable
    return site.page("reviews.html", lines=lines[:500], more=max(0, len(lines) - 500), unreadable=unreadable)


def _search(site: Site, request: Request) -> Response:
    """The box at the top of every page: on to the list that was asked for."""
    where = request.query_params.get("in", "candidates")
    if where not in ("pairs", "prompts", "candidates", "judgements"):
        raise BadInput(f"in: {where!r} cannot be searched")
    return RedirectResponse(f"/{where}{Filters(q=_filters(request).q).query()}", 303)


def _help(site: Site, request: Request) -> Response:
    return site.page("help.html")


def _sql(site: Site, request: Request) -> Response:
    text = request.query_params.get("q", "").strip()
    if not text:
        return site.page("sql.html", sql="", catalog=contents(site.workspace.store_path).to_pylist())
    begun = time.monotonic()
    try:
        found = read_sql(site.workspace.store_path, text, _WAIT_S, _SQL_S, limit=_SQL_ROWS + 1)
    except BadInput as error:
        return site.page("sql.html", 400, sql=text, catalog=(), error=str(error))
    rows = [
        [_cell(column[index].as_py()) for column in found.columns] for index in range(min(found.num_rows, _SQL_ROWS))
    ]
    return site.page(
        "sql.html", sql=text, catalog=(), columns=found.column_names, table=rows, more=found.num_rows > _SQL_ROWS,
        seconds=time.monotonic() - begun,
    )  # fmt: skip


# -- reviewing ----------------------------------------------------------------------------------------------------


def _review(site: Site, request: Request, form: Mapping[str, str] | None) -> Response:
    if form is None:
        raise BadInput("the form is too long, or not one of this page")
    decision, pair_id = form.get("decision", ""), request.path_params["pair_id"]
    if decision not in get_args(ReviewDecision):
        raise BadInput(f"decision: {decision!r} is not one of {', '.join(get_args(ReviewDecision))}")
    filters, store = _filters(request), site.store()
    with store.read(oldest=queries.OLDEST):
        found = queries.find_pair(store, pair_id, filters.branch)
    if found is None:
        raise Missing(f"There is no pair {pair_id} in this run.")
    note = form.get("note", "").strip().replace("\r\n", "\n")
    append(
        site.workspace.reviews,
        make_review(found.pair_id, found.round, cast(ReviewDecision, decision), note, site.reviewer, datetime.now(UTC)),
    )
    return RedirectResponse(f"/pairs/{found.pair_id}{filters.query()}", 303)


async def _form(request: Request) -> dict[str, str] | None:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return None
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_FORM:
            return None
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=20))
    except ValueError:
        return None


# -- how values are shown -----------------------------------------------------------------------------------------


def _shown(text: Any) -> str:
    return visible(str(text if text is not None else ""))


def _cut(text: Any, length: int = 200) -> str:
    shown = _shown(text)
    return shown if len(shown) <= length else f"{shown[:length].rstrip()} …"


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _pretty(text: str) -> str:
    """JSON with line breaks; any other text as it is."""
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except ValueError:
        return text


def _cell(value: Any) -> str:
    text = (
        "NULL"
        if value is None
        else value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str)
    )
    return _cut(text, _SQL_TEXT)
