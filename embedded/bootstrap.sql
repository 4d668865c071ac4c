-- What every Supabase project has before its first migration. Safe to run again at any time.
--
-- It is run two ways: by `postgres --single -j` when a cluster is made, and over a connection by
-- embedded.migrations.apply_bootstrap. The first ends a statement only at a semicolon followed by an EMPTY LINE, so
-- no function body may contain one.

-- In single-user mode PostgreSQL hands out the object ids of built-in objects, which logical decoding passes over. Using
-- them up (large objects are the cheapest way) makes what follows ordinary; otherwise this takes one id.
do $$
declare
  used oid;
begin
  loop
    used := lo_creat(-1);
    perform lo_unlink(used);
    exit when used >= 16383;
  end loop;
end
$$;

-- Roles ----------------------------------------------------------------------------------------------------------
do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('anon', 'nologin noinherit'),
      ('authenticated', 'nologin noinherit'),
      ('service_role', 'nologin noinherit bypassrls'),
      ('authenticator', 'login noinherit'),
      ('supabase_admin', 'login superuser createdb createrole replication bypassrls'),
      ('supabase_auth_admin', 'login noinherit createrole'),
      ('supabase_realtime_admin', 'nologin noinherit')
    ) as roles (name, options)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
      execute format('create role %I %s', wanted.name, wanted.options);
    end if;
  end loop;
end
$$;

grant anon, authenticated, service_role to authenticator;

grant anon, authenticated, service_role, supabase_realtime_admin to postgres;

-- Schemas --------------------------------------------------------------------------------------------------------
create schema if not exists extensions;

create schema if not exists auth authorization supabase_admin;

create schema if not exists realtime authorization supabase_admin;

grant usage on schema public, extensions, auth, realtime
  to postgres, anon, authenticated, service_role, supabase_realtime_admin;

-- As hosted Supabase: everything made in public is open to the three API roles, and row level security decides.
alter default privileges for role postgres in schema public
  grant all on tables to postgres, anon, authenticated, service_role;

alter default privileges for role postgres in schema public
  grant all on functions to postgres, anon, authenticated, service_role;

alter default privileges for role postgres in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;

alter default privileges for role supabase_admin in schema public
  grant all on tables to postgres, anon, authenticated, service_role;

alter default privileges for role supabase_admin in schema public
  grant all on functions to postgres, anon, authenticated, service_role;

alter default privileges for role supabase_admin in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;

do $$
begin
  execute format('alter database %I set search_path to "$user", public, extensions', current_database());
  execute 'alter role postgres set search_path to "$user", public, extensions';  -- for databases cloned from this one
  execute 'alter role authenticator set search_path to "$user", public, extensions';
  execute format('grant connect, create, temporary on database %I to postgres', current_database());
end
$$;

-- uuid_generate_v4: the wheel has no uuid-ossp, and generated SQL commonly calls it ---------------------------------
create or replace function extensions.uuid_generate_v4() returns uuid
  language sql volatile parallel safe
  as $$ select pg_catalog.gen_random_uuid() $$;

grant execute on all functions in schema extensions to postgres, anon, authenticated, service_role;

-- auth.*: who is asking, from what the gateway set for this transaction ---------------------------------------------
create or replace function auth.jwt() returns jsonb
  language sql stable
  as $$
    select coalesce(
      nullif(current_setting('request.jwt.claim', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
  $$;

-- The one-setting-per-claim form (request.jwt.claim.sub) is what older PostgREST sets; it is still honoured first.
create or replace function auth.uid() returns uuid
  language sql stable
  as $$
    select coalesce(
      nullif(current_setting('request.jwt.claim.sub', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
  $$;

create or replace function auth.role() returns text
  language sql stable
  as $$
    select coalesce(
      nullif(current_setting('request.jwt.claim.role', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
  $$;

create or replace function auth.email() returns text
  language sql stable
  as $$
    select coalesce(
      nullif(current_setting('request.jwt.claim.email', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    )
  $$;

grant execute on all functions in schema auth to public;

-- auth's tables: users, how they sign in, and their sessions. Columns and defaults are those that applications refer to
-- (foreign keys, triggers, seed files); only the embedded auth endpoint, as supabase_auth_admin, reads and writes them.
create table if not exists auth.users (
  instance_id uuid,
  id uuid not null primary key,
  aud varchar(255),
  role varchar(255),
  email varchar(255),
  encrypted_password varchar(255),
  email_confirmed_at timestamptz,
  invited_at timestamptz,
  confirmation_token varchar(255),
  confirmation_sent_at timestamptz,
  recovery_token varchar(255),
  recovery_sent_at timestamptz,
  email_change_token_new varchar(255),
  email_change varchar(255),
  email_change_sent_at timestamptz,
  last_sign_in_at timestamptz,
  raw_app_meta_data jsonb,
  raw_user_meta_data jsonb,
  is_super_admin boolean,
  created_at timestamptz,
  updated_at timestamptz,
  phone text unique default null,
  phone_confirmed_at timestamptz,
  phone_change text default '',
  phone_change_token varchar(255) default '',
  phone_change_sent_at timestamptz,
  confirmed_at timestamptz generated always as (least(email_confirmed_at, phone_confirmed_at)) stored,
  email_change_token_current varchar(255) default '',
  email_change_confirm_status smallint default 0 check (email_change_confirm_status between 0 and 2),
  banned_until timestamptz,
  reauthentication_token varchar(255) default '',
  reauthentication_sent_at timestamptz,
  is_sso_user boolean not null default false,
  deleted_at timestamptz,
  is_anonymous boolean not null default false
);

create unique index if not exists users_email_partial_key on auth.users (email) where is_sso_user = false;

create table if not exists auth.identities (
  provider_id text not null,
  user_id uuid not null references auth.users on delete cascade,
  identity_data jsonb not null,
  provider text not null,
  last_sign_in_at timestamptz,
  created_at timestamptz,
  updated_at timestamptz,
  email text generated always as (lower(identity_data ->> 'email')) stored,
  id uuid not null default gen_random_uuid() primary key,
  unique (provider_id, provider)
);

create index if not exists identities_user_id_idx on auth.identities (user_id);

-- Refresh tokens are not kept: each is a signature over its session and this counter (embedded.auth.tokens).
create table if not exists auth.sessions (
  id uuid not null primary key,
  user_id uuid not null references auth.users on delete cascade,
  created_at timestamptz,
  updated_at timestamptz,
  factor_id uuid,
  aal text default 'aal1',
  not_after timestamptz,
  refreshed_at timestamptz,
  user_agent text,
  ip inet,
  tag text,
  refresh_token_counter bigint not null default 0
);

create index if not exists sessions_user_id_idx on auth.sessions (user_id);

alter table auth.users owner to supabase_auth_admin;

alter table auth.identities owner to supabase_auth_admin;

alter table auth.sessions owner to supabase_auth_admin;

alter table auth.users enable row level security;

alter table auth.identities enable row level security;

alter table auth.sessions enable row level security;

grant usage, create on schema auth to supabase_auth_admin;

grant all on auth.users, auth.identities, auth.sessions to postgres;

-- As hosted: a trigger on auth.users has to name the schemas of what it uses.
alter role supabase_auth_admin set search_path to auth;

-- Whoever changes the schema tells the REST endpoint, so that a new table is served at once ----------------------------
create or replace function extensions.pgrst_ddl_watch() returns event_trigger
  language plpgsql
  set search_path = ''
  as $$
begin
  if exists (
    select from pg_catalog.pg_event_trigger_ddl_commands() command
    where command.schema_name is distinct from 'pg_temp'
      and command.command_tag <> all (array['CREATE INDEX', 'ALTER INDEX', 'REFRESH MATERIALIZED VIEW'])
  ) then
    perform pg_catalog.pg_notify('pgrst', 'reload schema');
  end if;
end
$$;

create or replace function extensions.pgrst_drop_watch() returns event_trigger
  language plpgsql
  set search_path = ''
  as $$
begin
  if exists (
    select from pg_catalog.pg_event_trigger_dropped_objects() dropped
    where dropped.object_type in ('schema', 'table', 'table column', 'foreign table', 'view', 'materialized view',
                                  'function', 'procedure', 'type', 'table constraint')
      and not dropped.is_temporary
  ) then
    perform pg_catalog.pg_notify('pgrst', 'reload schema');
  end if;
end
$$;

drop event trigger if exists pgrst_ddl_watch;

create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();

drop event trigger if exists pgrst_drop_watch;

create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_drop_watch();

-- realtime -------------------------------------------------------------------------------------------------------
grant all on schema realtime to supabase_realtime_admin;

-- The topic that a policy on realtime.messages is asked about; NULL outside of such a question.
create or replace function realtime.topic() returns text
  language sql stable
  as $$ select nullif(current_setting('realtime.topic', true), '') $$;

-- Messages sent from SQL, and what the policies of private channels are written for. The server follows the inserts
-- in the replication stream and drops whole days.
create table if not exists realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default (now() at time zone 'utc'),
  inserted_at timestamp not null default (now() at time zone 'utc'),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  constraint messages_pkey primary key (id, inserted_at),
  constraint messages_payload_exclusive check (payload is null or binary_payload is null)
) partition by range (inserted_at);

create index if not exists messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
  where extension = 'broadcast' and private is true;

alter table realtime.messages enable row level security;

alter table realtime.messages owner to supabase_realtime_admin;

grant all on realtime.messages to postgres;

grant select, insert, update on realtime.messages to anon, authenticated, service_role;

-- The days from yesterday to three ahead, and none of which the last row is older than 72 hours. Locks the table for
-- a moment when there is something to do, and gives up after two seconds of waiting for it: there are days to spare.
create or replace function realtime.maintain_messages() returns void
  language plpgsql security definer
  set search_path = '' set lock_timeout = '2s'
  as $$
declare
  moment constant timestamp := pg_catalog.timezone('utc', pg_catalog.now());
  first_day date;
  old_name text;
begin
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('realtime.maintain_messages'));
  for days in -1 .. 3 loop
    first_day := moment::date + days;
    if pg_catalog.to_regclass('realtime.messages_' || pg_catalog.to_char(first_day, 'YYYY_MM_DD')) is null then
      execute pg_catalog.format(
        'create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
        'messages_' || pg_catalog.to_char(first_day, 'YYYY_MM_DD'), first_day, first_day + 1);
    end if;
  end loop;
  for old_name in
    select c.relname
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'realtime.messages'::regclass and pg_catalog.pg_has_role(c.relowner, 'USAGE')
      and c.relname ~ '^messages_\d{4}_\d\d_\d\d$'
      and pg_catalog.to_date(pg_catalog.substr(c.relname, 10), 'YYYY_MM_DD') + 1 <= moment - interval '72 hours'
  loop
    execute pg_catalog.format('drop table realtime.%I', old_name);
  end loop;
end
$$;

-- A message that cannot be sent is a warning: it must not fail the transaction that it tells of.
create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
  returns void
  language plpgsql
  as $$
declare
  message_id constant uuid := gen_random_uuid();
begin
  perform set_config('realtime.topic', send.topic, true);
  insert into realtime.messages (id, topic, event, private, extension, payload)
  values (
    message_id, send.topic, send.event, send.private, 'broadcast',
    case
      when send.payload ? 'id' then send.payload
      else jsonb_set(send.payload, '{id}', to_jsonb(message_id))
    end
  );
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
  returns void
  language plpgsql
  as $$
begin
  perform set_config('realtime.topic', send_binary.topic, true);
  insert into realtime.messages (topic, event, private, extension, binary_payload)
  values (send_binary.topic, send_binary.event, send_binary.private, 'broadcast', send_binary.payload);
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- For triggers: tells a private topic of one row's change.
create or replace function realtime.broadcast_changes(
  topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record,
  level text default 'ROW'
) returns void
  language plpgsql
  as $$
begin
  if level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'Unexpected operation type: %', operation;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'schema', table_schema, 'table', table_name, 'operation', operation,
      'record', to_jsonb(new), 'old_record', to_jsonb(old)
    ),
    event_name,
    topic_name
  );
exception when others then
  raise exception 'Failed to process the row: %', sqlerrm;
end
$$;

do $$
declare
  ours regprocedure;
begin
  for ours in
    select p.oid from pg_catalog.pg_proc p
    where p.pronamespace = 'realtime'::regnamespace
      and p.proname in ('topic', 'send', 'send_binary', 'broadcast_changes', 'maintain_messages')
  loop
    execute format('alter function %s owner to supabase_realtime_admin', ours);
  end loop;
end
$$;

grant execute on all functions in schema realtime to postgres, anon, authenticated, service_role;

revoke execute on function realtime.maintain_messages() from public, anon, authenticated, service_role;

select realtime.maintain_messages();

do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime_messages_publication') then
    create publication supabase_realtime_messages_publication for table realtime.messages with (publish = 'insert');
  end if;
end
$$;

-- The publication the Realtime server follows; migrations add their tables to it. Stored generated columns are part of
-- what hosted Realtime sends, but pgoutput leaves them out unless asked.
do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime with (publish_generated_columns = stored);
  end if;
end
$$;
