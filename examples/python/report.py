"""Sums a file of orders by customer: report.py ORDERS.csv REPORT.json

Ends with 3 when a row could not be read; the report then holds the others.
"""

import csv
import json
import sys
from collections import defaultdict
from decimal import Decimal, InvalidOperation


def main(orders: str, report: str) -> int:
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    rejected = 0
    with open(orders, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                totals[row["customer"]] += int(row["pieces"]) * Decimal(row["price"])
            except (InvalidOperation, KeyError, TypeError, ValueError):
                rejected += 1
    with open(report, "w", encoding="utf-8") as file:
        json.dump({name: str(total) for name, total in sorted(totals.items())}, file, indent=2)
        file.write("\n")
    print(f"{len(totals)} customers, {sum(totals.values())} in all, {rejected} rows rejected")
    return 3 if rejected else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: report.py ORDERS.csv REPORT.json")
    sys.exit(main(sys.argv[1], sys.argv[2]))
