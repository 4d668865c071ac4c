-- What every Supabase project has before its first migration. Safe to run again at any time.
--
-- It is run two ways: by `postgres --single -j` when a cluster is made, and over a connection by
-- embedded.migrations.apply_bootstrap. The first ends a statement only at a semicolon followed by an EMPTY LINE, so
-- no function body may contain one.

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

-- realtime -------------------------------------------------------------------------------------------------------
create or replace function realtime.topic() returns text
  language sql stable
  as $$ select nullif(current_setting('realtime.topic', true), '') $$;

grant execute on all functions in schema realtime to postgres, anon, authenticated, service_role;

grant all on schema realtime to supabase_realtime_admin;

-- The publication the Realtime server follows; migrations add their tables to it. Stored generated columns are part of
-- what hosted Realtime sends, but pgoutput leaves them out unless asked.
do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime with (publish_generated_columns = stored);
  end if;
end
$$;
