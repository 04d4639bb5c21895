"""What people have done in a store of generated results: decisions, boxes, claims; and the versions and webhooks beside them.

Six moderators have decided about two in five of the flagged results and one in fifty of the others that wait, but for the last
day. Some were unsure, some of those changed their minds, some pictures were looked at twice. One in twenty of the decided
pictures was audited again by the newest version since; the queue does not know yet that those results are decided. In the log of
decisions only the hashes are made up.
"""

from sqlalchemy import text

from storage.database import Database

REVIEWERS = 6

DECIDED = "n < {count} * 0.99 AND (score > 0.97 AND n % 5 < 2 OR score > 0.9 AND n % 50 = 7)"
"""Whether a person has decided about the n-th picture: what `generated_rows` writes into its result."""

_AGAIN = """
INSERT INTO audit_result (job_id, model_version, profile, score, verdict, area, regions, mask_png, mask_agreement, width_px,
  height_px, latency_ms, undecided, created_at)
SELECT job_id, '{newest}', profile, score, verdict, area, regions, mask_png, 1, width_px, height_px, 80, true, now()
FROM audit_result WHERE NOT undecided AND id % 20 = 1 AND model_version <> '{newest}'
"""
_REVIEW = """
INSERT INTO review (result_id, job_id, sha256, decision, reviewer, note, created_at)
SELECT r.id, r.job_id, j.sha256,
  CASE WHEN r.id % 33 = 0 THEN 'unsure' WHEN r.id % 3 = 0 THEN 'authentic' ELSE 'manipulated' END,
  'reviewer-' || r.id % {reviewers}, '', r.created_at + interval '12 hours'
FROM audit_result r JOIN audit_job j ON j.id = r.job_id WHERE NOT r.undecided ORDER BY r.id
"""
_CHANGED_MIND = """
INSERT INTO review (result_id, job_id, sha256, decision, reviewer, note, created_at, replaces)
SELECT result_id, job_id, sha256, 'manipulated', reviewer, 'looked again', created_at + interval '1 hour', id
FROM review WHERE decision = 'unsure' AND result_id % 2 = 0 ORDER BY id
"""
_SECOND_OPINION = """
INSERT INTO review (result_id, job_id, sha256, decision, reviewer, note, created_at)
SELECT result_id, job_id, sha256, decision, 'reviewer-' || (result_id + 1) % {reviewers}, '', created_at + interval '2 hours'
FROM review WHERE decision <> 'unsure' AND replaces IS NULL AND result_id % 40 = 1 ORDER BY id
"""
_ANNOTATION = """
INSERT INTO box_annotation (sha256, result_id, kind, boxes, width_px, height_px, annotator, note, origin, created_at)
SELECT sha256, result_id, CASE decision WHEN 'manipulated' THEN 'boxes' ELSE 'authentic' END,
  CASE decision WHEN 'manipulated' THEN '[{"x0": 10, "y0": 20, "x1": 300, "y1": 400}]' ELSE '[]' END::json,
  1200, 900, reviewer, note, 'page', created_at
FROM review WHERE decision <> 'unsure' ORDER BY created_at
"""
_LOG = """
INSERT INTO decision_log (number, at, who, action, subject, details, previous_hash, hash)
SELECT row_number() OVER (ORDER BY at, subject, who), at, who, action, subject, details, md5(at::text) || md5(subject),
  md5(subject) || md5(at::text)
FROM (
  SELECT created_at AS at, reviewer AS who, 'review.add' AS action, 'result ' || result_id AS subject,
    json_build_object('row', id, 'picture', sha256, 'decision', decision, 'note', note, 'replaces', replaces) AS details
  FROM review
  UNION ALL
  SELECT created_at, annotator, 'annotation.add', 'picture ' || sha256,
    json_build_object('row', id, 'result', result_id, 'kind', kind, 'boxes', boxes, 'note', note, 'origin', origin)
  FROM box_annotation
) entries
"""
# The most suspicious thirty are on somebody's screen, or were: a third of the claims have run out.
_CLAIM = """
INSERT INTO review_claim (picture, result_id, holder, token, claimed_at, expires_at)
SELECT j.sha256, top.id, 'reviewer-' || place % {reviewers}, substr(md5(place::text), 1, 16), now(),
  now() + CASE WHEN place % 3 = 0 THEN interval '-1 minute' ELSE interval '1 day' END
FROM (
  SELECT id, job_id, row_number() OVER (ORDER BY score DESC, id DESC) AS place FROM audit_result
  WHERE undecided AND profile = 'none' AND verdict = 'flag' ORDER BY score DESC, id DESC LIMIT 30
) top JOIN audit_job j ON j.id = top.job_id ON CONFLICT DO NOTHING
"""
_VERSION = """
INSERT INTO model_version (version, stage, location, card, reason, created_at, stage_changed_at)
VALUES (:version, :stage, 'package', '{}', 'generated', now(), now())
"""
_WEBHOOK = """
INSERT INTO webhook (id, url, secret, cursor, who, created_at, stopped_why)
SELECT 'hook-' || n, 'https://hooks.example.org/' || n, 'secret', 0, 'key', now(), '' FROM generate_series(1, 3) n
"""
_DELIVERY = """
INSERT INTO webhook_delivery (webhook_id, result_id, state, attempts, next_at, words, created_at)
SELECT 'hook-' || 1 + id % 3, id, CASE WHEN id % 300 = 0 THEN 'failed' WHEN id % 500 = 1 THEN 'waiting' ELSE 'delivered' END,
  1, now(), '', now() FROM audit_result ORDER BY id DESC LIMIT 100000
"""


def add_people(database: Database, versions: tuple[str, ...]) -> None:
    """Add all of this to results that are there, of these versions, the newest last and live."""
    people = (_REVIEW, _CHANGED_MIND, _SECOND_OPINION, _ANNOTATION, _LOG, _AGAIN, _CLAIM, _WEBHOOK, _DELIVERY)
    with database.engine.begin() as connection:
        for version in versions:
            stage = "live" if version == versions[-1] else "retired"
            connection.execute(text(_VERSION), {"version": version, "stage": stage})
        for statement in people:
            # Not `format`: there is JSON in them.
            named = statement.replace("{reviewers}", str(REVIEWERS)).replace("{newest}", versions[-1])
            connection.exec_driver_sql(named.replace("%", "%%"))
