"""What somebody who can write the database would do to the audit log: statements on an SQLite file."""
import sqlite3
import sys

database = sqlite3.connect(sys.argv[1], timeout=30)
for statement in sys.argv[2:]:
    database.execute(statement)
database.commit()
print("{}")
