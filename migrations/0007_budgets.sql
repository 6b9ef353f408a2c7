-- What may still be spent on queries that a model which charges has never seen: in all, and by each client. A budget
-- fills up with time, so that it is enough to know when it will be full.
CREATE TABLE budgets (
    name    text PRIMARY KEY,
    full_at timestamptz NOT NULL
);
CREATE INDEX budgets_full ON budgets (full_at);
