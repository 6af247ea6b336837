"""The users: one class a task, and no pace of their own. They send what is due."""

from typing import ClassVar

import gevent
from locust import FastHttpUser, constant, task
from locust.contrib.fasthttp import ResponseContextManager

from loadtest.answers import Outcome, Verdict, failure, judge_response
from loadtest.kinds import Task
from loadtest.run import Run, StepLoop
from loadtest.scenario import Scenario

_IDLE_SECONDS = 0.2


class OpenLoopUser(FastHttpUser):
    """Sends one request after the other, each when it is due.

    What locust hears of it is the time from when the request was due, so that its own report and
    statistics are right too.
    """

    abstract = True
    wait_time = constant(0)
    max_redirects = 0

    task_name: ClassVar[Task]
    run_part: ClassVar[Run]

    @classmethod
    def prepare(cls, run: Run) -> None:
        """Let all users that are made from now on take part in a run."""
        OpenLoopUser.run_part = run
        OpenLoopUser.network_timeout = run.scenario.timeout_seconds
        OpenLoopUser.connection_timeout = run.scenario.timeout_seconds

    @task
    def send_next(self) -> None:
        """Wait until the next request is due, send it, and record what came back."""
        run = self.run_part
        run.begun.wait()
        turn = run.take(self.task_name)
        if turn is None:
            gevent.sleep(_IDLE_SECONDS)
            return
        if (remaining := run.remaining(turn)) > 0:
            gevent.sleep(remaining)
        self._send(run, turn)

    def _send(self, run: Run, turn: StepLoop) -> None:
        request = turn.request
        limit = {"X-Request-Timeout-Ms": str(round(1000 * run.scenario.timeout_seconds))}
        kind = turn.arrival.kind
        with self.client.post(
            request.path,
            data=request.body,  # type: ignore[arg-type]  # bytes are sent as they are
            headers={**request.headers, **limit},
            name=kind.value,
            catch_response=True,
        ) as response:
            verdict = _judge(turn, response)
            response.request_meta["response_time"] = 1000 * run.end(turn, verdict)
            if verdict.outcome is Outcome.REFUSED:
                response.request_meta["name"] = f"{kind} (refused)"
            if verdict.outcome is Outcome.FAILED:
                response.failure(verdict.reason)
            else:
                response.success()


def _judge(turn: StepLoop, response: ResponseContextManager) -> Verdict:
    error = getattr(response, "error", None) or response.request_meta["exception"]
    if not response.status_code:
        return failure(error or ConnectionError("no response"))
    given = response.headers
    headers = {name.lower(): value for name, value in given.items()} if given else {}
    return judge_response(turn.arrival.kind, response.status_code, headers, response.content or b"")


class ClassifyUser(OpenLoopUser):
    """Asks for labels of texts and images."""

    task_name = Task.CLASSIFY


class TranslateUser(OpenLoopUser):
    """Asks for translations."""

    task_name = Task.TRANSLATE


class DetectUser(OpenLoopUser):
    """Asks for the objects in photos."""

    task_name = Task.DETECT


class EmbedUser(OpenLoopUser):
    """Asks for vectors of texts and images."""

    task_name = Task.EMBED


USERS = (ClassifyUser, TranslateUser, DetectUser, EmbedUser)


def user_class(task_name: Task) -> type[OpenLoopUser]:
    """Return whose users ask a task."""
    return next(user for user in USERS if user.task_name is task_name)


def set_counts(scenario: Scenario) -> None:
    """Let locust start as many users of each task as the scenario says."""
    wanted = scenario.tasks()
    for user in USERS:
        user.fixed_count = scenario.users[user.task_name] if user.task_name in wanted else 0
        user.weight = 0
