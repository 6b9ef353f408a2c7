-- The offline model understands other languages now: compute the cached vectors of its query texts again.
DELETE FROM query_vectors WHERE model = 'offline-v1';
