-- Keys with which applications push: made and revoked by admins, kept as hashes, shown once.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

create table public.cf_api_keys (
  id uuid primary key,
  name text not null check (octet_length(name) between 1 and 200),
  prefix text not null unique check (prefix ~ '^[0-9a-f]{12}$'),
  hash bytea not null check (octet_length(hash) = 32),
  application text check (octet_length(application) between 1 and 128),
  created_by text not null,
  created_at timestamptz not null default pg_catalog.clock_timestamp(),
  expires_at timestamptz,
  revoked_by text,
  revoked_at timestamptz,
  used_at timestamptz
);
comment on table public.cf_api_keys is
  'Keys of applications that push, as SHA-256 of 256 random bits: there is nothing to guess, so nothing to slow down. The
prefix finds the row. With an application the key is for its streams alone.';

create function public.cf_require_admin() returns void
language plpgsql stable set search_path = '' as $$
begin
  if coalesce(auth.jwt() ->> 'role', '') <> 'service_role' and public.cf_role() is distinct from 'admin' then
    raise exception 'this needs an admin: app_metadata.crossfade_role must be admin' using errcode = 'PT403';
  end if;
end $$;

create function public.cf_key_json(p_row public.cf_api_keys) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.to_jsonb(p_row) - 'hash'
$$;

create function public.cf_create_key(
  p_id uuid, p_name text, p_prefix text, p_hash bytea, p_application text, p_seconds double precision
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_row public.cf_api_keys;
begin
  perform public.cf_require_admin();
  insert into public.cf_api_keys (id, name, prefix, hash, application, created_by, expires_at)
  values (p_id, p_name, p_prefix, p_hash, p_application, public.cf_caller_name(),
    pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => p_seconds))
  on conflict (id) do nothing;   -- said again, as the answer was not heard
  insert into public.cf_audit (id, who, role, action, device, target, detail, outcome, finished_at)
  values (p_id, public.cf_caller_name(), coalesce(public.cf_role(), 'service_role'), 'key create', '', p_name,
    pg_catalog.jsonb_build_object('prefix', p_prefix, 'application', p_application), 'done', pg_catalog.clock_timestamp())
  on conflict (id) do nothing;
  perform pg_catalog.pg_notify('cf_keys', '');
  select * into v_row from public.cf_api_keys where id = p_id;
  return public.cf_key_json(v_row);
end $$;

create function public.cf_revoke_key(p_prefix text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_row public.cf_api_keys;
begin
  perform public.cf_require_admin();
  update public.cf_api_keys set revoked_by = public.cf_caller_name(), revoked_at = pg_catalog.clock_timestamp()
  where prefix = p_prefix and revoked_at is null;
  if found then
    insert into public.cf_audit (who, role, action, device, target, detail, outcome, finished_at)
    select public.cf_caller_name(), coalesce(public.cf_role(), 'service_role'), 'key revoke', '', name,
      pg_catalog.jsonb_build_object('prefix', p_prefix), 'done', pg_catalog.clock_timestamp()
    from public.cf_api_keys where prefix = p_prefix;
    perform pg_catalog.pg_notify('cf_keys', '');
  end if;
  select * into v_row from public.cf_api_keys where prefix = p_prefix;
  if not found then
    raise exception 'there is no key %', pg_catalog.left(p_prefix, 20) using errcode = 'PT404';
  end if;
  return public.cf_key_json(v_row);
end $$;

create function public.cf_list_keys() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform public.cf_require_admin();
  return pg_catalog.jsonb_build_object('keys', (
    select coalesce(pg_catalog.jsonb_agg(public.cf_key_json(k) order by k.created_at desc, k.id), '[]')
    from (select * from public.cf_api_keys order by created_at desc, id limit 1000) k));
end $$;

alter table public.cf_api_keys enable row level security;
revoke all on public.cf_api_keys from anon, authenticated;
grant select, insert, update, delete on public.cf_api_keys to service_role;
revoke execute on function public.cf_require_admin(), public.cf_key_json(public.cf_api_keys),
  public.cf_create_key(uuid, text, text, bytea, text, double precision), public.cf_revoke_key(text), public.cf_list_keys()
  from public, anon, authenticated;
grant execute on function public.cf_create_key(uuid, text, text, bytea, text, double precision),
  public.cf_revoke_key(text), public.cf_list_keys()
  to authenticated, service_role;
grant execute on function public.cf_require_admin(), public.cf_key_json(public.cf_api_keys) to service_role;
