"""An independent look at an audit log: recomputes every seal of `ringfence audit list -o json` (standard input)."""
import hashlib
import json
import sys

before, events = "", 0
for e in reversed(json.load(sys.stdin)["events"]):
    sealed = [before, e["sequence"], e["at_millis"], e["actor"], e["authenticated"], e["action"], e["subject"], e["reason"]]
    text = json.dumps(sealed, ensure_ascii=False, separators=(",", ":"))
    before = hashlib.sha256(text.encode()).hexdigest()
    assert before == e["seal"], e
    events += 1
print(json.dumps({"events": events, "head": before}))
