"""Signs and verifies with Slack's own SDK; speaks the language of sdk.mjs."""

import base64
import json
import sys

from slack_sdk.signature import SignatureVerifier


class Clock:
    def __init__(self, at):
        self.at = at

    def now(self):
        return self.at / 1000


def answer(job):
    verifier = SignatureVerifier(job["secret"], Clock(job["at"]))
    body = base64.b64decode(job["body"])
    if job["op"] == "sign":
        timestamp = str(job["at"] // 1000)
        signature = verifier.generate_signature(timestamp=timestamp, body=body)
        return [["x-slack-request-timestamp", timestamp], ["x-slack-signature", signature]]
    return verifier.is_valid_request(body, dict(job["headers"])) or "refused"


json.dump([answer(job) for job in json.load(sys.stdin)], sys.stdout)
