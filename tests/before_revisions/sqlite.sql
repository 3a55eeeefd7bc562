BEGIN TRANSACTION;
CREATE TABLE todos (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	title VARCHAR(200) NOT NULL, 
	title_folded VARCHAR(600) NOT NULL, 
	status VARCHAR(9) NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	idempotency_key VARCHAR(255), 
	idempotency_digest VARCHAR(64), 
	CONSTRAINT todos_title_length CHECK (length(title) BETWEEN 1 AND 200), 
	CONSTRAINT todos_status CHECK (status IN ('active', 'completed'))
);
INSERT INTO "todos" VALUES(1,'Buy milk','buy milk','active','2026-11-25 08:45:19.658694','2026-11-25 08:45:19.658694',NULL,NULL);
INSERT INTO "todos" VALUES(2,'Müll runter','müll runter','completed','2026-11-25 08:45:19.666524','2026-11-25 08:45:19.714271','key-1','0f29de3cde628c619210952fca40c6e8d2bc7c9b99514017d72453f3db13d57e');
INSERT INTO "todos" VALUES(4,'買い物','買い物','active','2026-11-25 08:45:19.699864','2026-11-25 08:45:19.699864','key-3','b466558caaaff60ec97f1aedf761c31a62e4a822b7838a1dd87b7b2687deaa4a');
INSERT INTO "todos" VALUES(5,'Call Ada','call ada','active','2026-11-25 08:45:19.703953','2026-11-25 08:45:19.703953',NULL,NULL);
CREATE INDEX todos_by_updated_at ON todos (updated_at, id);
CREATE UNIQUE INDEX todos_by_idempotency_key ON todos (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX todos_by_title ON todos (title_folded, id);
CREATE INDEX todos_by_created_at ON todos (created_at, id);
CREATE INDEX todos_by_status ON todos (status, id);
CREATE INDEX todos_by_status_and_created_at ON todos (status, created_at, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('todos',6);
COMMIT;
