CREATE TABLE public.todos (
    id bigint NOT NULL,
    title character varying(200) NOT NULL,
    title_folded character varying(600) NOT NULL COLLATE pg_catalog."C",
    status character varying(9) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    idempotency_key character varying(255),
    idempotency_digest character varying(64),
    CONSTRAINT todos_status CHECK (((status)::text = ANY ((ARRAY['active'::character varying, 'completed'::character varying])::text[]))),
    CONSTRAINT todos_title_length CHECK (((length((title)::text) >= 1) AND (length((title)::text) <= 200)))
);

CREATE SEQUENCE public.todos_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.todos_id_seq OWNED BY public.todos.id;

ALTER TABLE ONLY public.todos ALTER COLUMN id SET DEFAULT nextval('public.todos_id_seq'::regclass);

INSERT INTO public.todos VALUES (1, 'Buy milk', 'buy milk', 'active', '2026-11-25 08:45:22.177665+00', '2026-11-25 08:45:22.177665+00', NULL, NULL);
INSERT INTO public.todos VALUES (4, '買い物', '買い物', 'active', '2026-11-25 08:45:22.198683+00', '2026-11-25 08:45:22.198683+00', 'key-3', 'b466558caaaff60ec97f1aedf761c31a62e4a822b7838a1dd87b7b2687deaa4a');
INSERT INTO public.todos VALUES (5, 'Call Ada', 'call ada', 'active', '2026-11-25 08:45:22.202841+00', '2026-11-25 08:45:22.202841+00', NULL, NULL);
INSERT INTO public.todos VALUES (2, 'Müll runter', 'müll runter', 'completed', '2026-11-25 08:45:22.187912+00', '2026-11-25 08:45:22.212562+00', 'key-1', '0f29de3cde628c619210952fca40c6e8d2bc7c9b99514017d72453f3db13d57e');

SELECT pg_catalog.setval('public.todos_id_seq', 6, true);

ALTER TABLE ONLY public.todos
    ADD CONSTRAINT todos_pkey PRIMARY KEY (id);

CREATE INDEX todos_by_created_at ON public.todos USING btree (created_at, id);

CREATE UNIQUE INDEX todos_by_idempotency_key ON public.todos USING btree (idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX todos_by_status ON public.todos USING btree (status, id);

CREATE INDEX todos_by_status_and_created_at ON public.todos USING btree (status, created_at, id);

CREATE INDEX todos_by_title ON public.todos USING btree (title_folded, id);

CREATE INDEX todos_by_updated_at ON public.todos USING btree (updated_at, id);
