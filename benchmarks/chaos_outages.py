"""What can happen to the services and to the messages, each as it happens; told as in `chaos_faults`."""

import json
import os
import resource
import signal
import time
from collections.abc import Generator

from sqlmodel import col, select

from benchmarks import chaos_witness
from benchmarks.chaos_run import REDIS_LIMIT_S, Run, Steps, Until
from benchmarks.chaos_servers import limit_file_size, signal_to
from benchmarks.chaos_witness import Brake
from cli.children import Child
from schemas.states import AuditQueue
from schemas.tables import AuditJob
from workers.app import send_audits
from workers.sweeper import message_of

_STAGE_WAIT_S = 12.0


def directory_broken(run: Run) -> Steps:
    """The directory of pictures cannot be used for a while, as a network share that hangs."""
    began_at, seconds, pictures = time.time(), run.rng.uniform(2, 6), run.site.folder / "blobs" / "pictures"
    run.note(f"the pictures' directory cannot be used for {seconds:.1f} s")
    away = pictures.with_name("away")
    pictures.rename(away)
    pictures.touch()
    yield seconds
    pictures.unlink()
    away.rename(pictures)
    yield from run.probe("directory broken", began_at, None)


def redis_restarted(run: Run) -> Steps:
    """Redis ends, in order or by kill -9, and comes back with its append-only file."""
    number = run.rng.choice([signal.SIGTERM, signal.SIGKILL])
    yield from _redis_down(run, number, "redis restarted", wiped=False)


def redis_wiped(run: Run) -> Steps:
    """All keys are gone at once."""
    began_at = time.time()
    with run.site.redis() as client:
        waiting = sum(client.llen(queue.celery_name) for queue in AuditQueue) + client.hlen("unacked")
        client.flushall()
    run.note(f"FLUSHALL with {waiting} messages in Redis")
    yield from run.probe("redis wiped", began_at, REDIS_LIMIT_S)


def redis_replaced(run: Run) -> Steps:
    """kill -9, and an empty Redis in its place."""
    yield from _redis_down(run, signal.SIGKILL, "redis replaced", wiped=True)


def redis_full(run: Run) -> Steps:
    """No memory is left for a while: every write is refused, popping a message is not."""
    began_at, seconds = time.time(), run.rng.uniform(2, 6)
    run.note(f"Redis refuses writes for {seconds:.1f} s")
    with run.site.redis() as client:
        client.config_set("maxmemory", "1")
        yield seconds
        client.config_set("maxmemory", "0")
    yield from run.probe("redis full", began_at, None)


def redis_disk_full(run: Run) -> Steps:
    """Its append-only file cannot grow: Redis refuses every command that would change something, popping among them."""
    began_at = yield from _disk_full(run, run.site.servers.redis, "Redis")
    yield from run.probe("the disk of Redis full", began_at, None)


def s3_disk_full(run: Run) -> Steps:
    """No file of the S3 server can grow: pictures are read, and none is stored. Its index needs a restart afterwards."""
    weed = run.site.servers.weed
    began_at = yield from _disk_full(run, weed, "S3")
    signal_to(weed, signal.SIGKILL)
    yield Until(lambda: not weed.running, 10)
    weed.revive()
    yield from run.probe("the disk of S3 full", began_at, None)


def postgres_disk_full(run: Run) -> Steps:
    """Every change of a job or result ends with what PostgreSQL says where its disk is full (class 53100)."""
    began_at, seconds = time.time(), run.rng.uniform(2, 6)
    run.note(f"PostgreSQL's disk is full for {seconds:.1f} s")
    run.site.execute(*chaos_witness.FULL)
    yield seconds
    run.site.execute(*chaos_witness.ROOM_AGAIN)
    yield from run.probe("PostgreSQL's disk full", began_at, None)


def redis_hangs(run: Run) -> Steps:
    """Redis stands still."""
    began_at, seconds = time.time(), run.rng.uniform(2, 8)
    run.note(f"SIGSTOP to Redis for {seconds:.1f} s")
    signal_to(run.site.servers.redis, signal.SIGSTOP)
    yield seconds
    signal_to(run.site.servers.redis, signal.SIGCONT)
    yield from run.probe("redis hung", began_at, None)


def postgres_restarted(run: Run) -> Steps:
    """PostgreSQL goes down, in order or at once, and comes back."""
    postgres, number = run.site.servers.postgres, run.rng.choice([signal.SIGINT, signal.SIGQUIT])
    began_at, seconds = time.time(), run.rng.uniform(0, 5)
    run.note(f"{number.name} to PostgreSQL, back {seconds:.1f} s later")
    signal_to(postgres, number)
    yield Until(lambda: not postgres.running, 10)
    yield seconds
    postgres.revive()
    yield from run.probe("postgres restarted", began_at, None)


def postgres_backends_killed(run: Run) -> Steps:
    """One backend dies by kill -9, for which PostgreSQL ends all others and replays its log; or all are told to end."""
    began_at = time.time()
    others = "FROM pg_stat_activity WHERE starts_with(application_name, 'worker')"
    if run.rng.random() < 0.5:
        pids = run.site.execute(f"SELECT pid {others}")
        run.note(f"kill -9 of one of {len(pids)} backends")
        for pid in pids[:1]:
            os.kill(pid, signal.SIGKILL)
    else:
        ended = run.site.execute(f"SELECT pg_terminate_backend(pid) {others}")
        run.note(f"{len(ended)} backends ended by the administrator")
    yield from run.probe("backends killed", began_at, None)


def postgres_read_only(run: Run) -> Steps:
    """Every write is refused for a while, as by a standby before its promotion."""
    began_at, seconds = time.time(), run.rng.uniform(2, 6)
    (name,) = run.site.execute("SELECT current_database()")
    run.note(f"PostgreSQL is read-only for {seconds:.1f} s")
    # What is connected keeps its setting; the pools connect again.
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    run.site.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on", cut)
    yield seconds
    run.site.execute("SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET default_transaction_read_only", cut)
    yield from run.probe("postgres read-only", began_at, None)


def s3_away(run: Run) -> Steps:
    """The S3 server is killed and comes back some time later."""
    began_at, seconds, weed = time.time(), run.rng.uniform(1, 6), run.site.servers.weed
    run.note(f"kill -9 of S3, back {seconds:.1f} s later")
    signal_to(weed, signal.SIGKILL)
    yield Until(lambda: not weed.running, 10)
    yield seconds
    weed.revive()
    yield from run.probe("s3 away", began_at, None)


def s3_slow(run: Run) -> Steps:
    """The S3 server stands still, again and again."""
    began_at, weed = time.time(), run.site.servers.weed
    pauses = [run.rng.uniform(0.5, 4) for _ in range(3)]
    run.note(f"SIGSTOP to S3 for {', '.join(f'{pause:.1f}' for pause in pauses)} s")
    for pause in pauses:
        signal_to(weed, signal.SIGSTOP)
        yield pause
        signal_to(weed, signal.SIGCONT)
        yield 0.3
    yield from run.probe("s3 slow", began_at, None)


def one_job_in_many_messages(run: Run) -> Steps:
    """A job's message many times over while one worker is about to store its results: the other must leave it alone."""
    name, copies = f"copied-{run.rng.getrandbits(32)}.jpg", run.rng.randrange(4, 12)
    job_id = run.producer.probe(name, run.rng.getrandbits(32))
    with Brake(run.site.database.url, "ending", job_id) as brake:
        yield Until(brake.stopped, _STAGE_WAIT_S)
        with run.site.read() as session:
            job = session.get(AuditJob, job_id)
            copied = [message_of(job)] * copies if job is not None else []
        send_audits(run.site.app, copied)
        run.note(f"{len(copied)} more messages for {name}, which {', '.join(brake.stopped()) or 'nobody'} is about to store")
        yield run.rng.uniform(0.5, 2)
    yield from run.probe("one job in many messages", time.time(), None)


def messages_doubled(run: Run) -> Steps:
    """Copies of messages that wait, new messages for jobs in any state, and all of them in another order."""
    with run.site.redis() as client:
        doubled = 0
        for queue in AuditQueue:
            waiting = client.lrange(queue.celery_name, 0, -1)
            copies = [entry for entry in waiting if run.rng.random() < 0.5]
            shuffled = run.rng.sample(waiting + copies, len(waiting) + len(copies))
            doubled += len(copies)
            with client.pipeline() as change:
                # What was taken meanwhile is doubled by this too.
                change.delete(queue.celery_name)
                for entry in shuffled:
                    change.lpush(queue.celery_name, entry)
                change.execute()
    with run.site.read() as session:
        jobs = [job for job in session.exec(select(AuditJob).where(col(AuditJob.sha256).is_not(None))) if run.rng.random() < 0.3]
        session.expunge_all()
    send_audits(run.site.app, map(message_of, jobs))
    run.note(f"{doubled} waiting messages copied, all in another order; new messages for {len(jobs)} jobs in any state")
    yield from run.probe("messages doubled", time.time(), None)


def malformed_messages(run: Run) -> Steps:
    """Entries that are no task messages, and task messages that ask for nothing of ours."""
    wrong = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"body": 1}', json.dumps({"body": "e30=", "properties": {}}).encode()]
    with run.site.redis() as client:
        for queue in AuditQueue:
            client.lpush(queue.celery_name, *run.rng.sample(wrong, len(wrong)))
    run.note(f"{len(wrong)} malformed entries on each queue")
    yield from run.probe("malformed messages", time.time(), None)


def _disk_full(run: Run, server: Child, name: str) -> Generator[float, None, float]:
    """By the limit on the size of files, which no write gets past; what is read is not touched. Returns when it began."""
    began_at, seconds = time.time(), run.rng.uniform(2, 6)
    run.note(f"the disk of {name} is full for {seconds:.1f} s")
    limit_file_size(server, 1)
    yield seconds
    limit_file_size(server, resource.RLIM_INFINITY)
    return began_at


def _redis_down(run: Run, number: signal.Signals, name: str, wiped: bool) -> Steps:
    redis, seconds = run.site.servers.redis, run.rng.uniform(0, 3)
    began_at = time.time()
    run.note(f"{number.name} to Redis, back {seconds:.1f} s later{', empty' if wiped else ''}")
    signal_to(redis, number)
    yield Until(lambda: not redis.running, 10)
    yield seconds
    if wiped:
        run.site.servers.forget_redis()
    redis.revive()
    yield from run.probe(name, began_at, REDIS_LIMIT_S)
