-- Keeps orders in a file and sums them by customer; every run adds the same three again.
CREATE TABLE IF NOT EXISTS orders (customer TEXT NOT NULL, pieces INTEGER NOT NULL, cents INTEGER NOT NULL);
BEGIN;
INSERT INTO orders VALUES ('Ada', 3, 120), ('Grace', 2, 1750), ('Ada', 200, 1);
COMMIT;
SELECT customer, count(*) AS orders, sum(pieces * cents) AS cents
FROM orders GROUP BY customer ORDER BY cents DESC;
