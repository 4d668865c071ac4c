-- Container logs on demand: who wants to read one says so here, the collector that has it broadcasts its lines.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

create table public.cf_log_interest (
  viewer uuid not null,
  device text not null check (octet_length(device) between 1 and 128),
  container text not null check (octet_length(container) between 1 and 300),
  lines int not null check (lines between 0 and 1000),
  asked_by uuid,
  expires_at timestamptz not null,
  primary key (viewer, device, container)
);
comment on table public.cf_log_interest is
  'Who reads which container''s log: a row for each reader, which expires unless cf_follow_logs renews it. While there is
one, the collector of the device reads the log; without any it does not. Not published.';
create index cf_log_interest_expiry on public.cf_log_interest (expires_at);

alter table public.cf_log_interest enable row level security;
revoke all on public.cf_log_interest from anon, authenticated;
grant select, insert, update, delete on public.cf_log_interest to service_role;

create function public.cf_follow_logs(
  p_viewer uuid, p_device text, p_container text, p_lines int default 100
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  c_seconds constant int := 30;
  c_most constant int := 20;     -- logs that one user may read at once
  c_most_of_all constant int := 500;
  v_new boolean;
begin
  if not (public.cf_is_reader() or coalesce(auth.jwt() ->> 'role', '') = 'service_role') then
    raise exception 'container logs are for viewers' using errcode = '42501',
      hint = 'The token''s app_metadata.crossfade_role must be viewer, operator or admin.';
  end if;
  update public.cf_log_interest
  set expires_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => c_seconds)
  where viewer = p_viewer and device = p_device and container = p_container
    and expires_at > pg_catalog.clock_timestamp() and asked_by is not distinct from auth.uid();
  v_new := not found;
  if v_new then
    delete from public.cf_log_interest where expires_at <= pg_catalog.clock_timestamp();
    if (select count(*) from public.cf_log_interest where asked_by is not distinct from auth.uid()) >= c_most
      or (select count(*) from public.cf_log_interest) >= c_most_of_all
    then
      raise exception 'at most % container logs may be read at once, % by all users together', c_most, c_most_of_all
        using errcode = '53400', hint = 'Call cf_end_logs for one, or wait 30 seconds after its last cf_follow_logs.';
    end if;
    insert into public.cf_log_interest (viewer, device, container, lines, asked_by, expires_at)
    values (p_viewer, p_device, p_container, p_lines, auth.uid(),
      pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => c_seconds));
    perform pg_catalog.pg_notify('cf_log_interest', p_device);
  end if;
  return pg_catalog.jsonb_build_object(
    'channel', 'logs:' || p_device || '/' || p_container, 'seconds', c_seconds, 'new', v_new);
end $$;
comment on function public.cf_follow_logs(uuid, text, text, int) is
  'Say, or say again, that a viewer (any uuid of its own) reads a container''s log. Join the private channel that is
returned first as logs:DEVICE/CONTAINER; then call this, and again before its seconds are over.';

create function public.cf_end_logs(p_viewer uuid, p_device text, p_container text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  delete from public.cf_log_interest
  where viewer = p_viewer and device = p_device and container = p_container and asked_by is not distinct from auth.uid();
  if found then
    perform pg_catalog.pg_notify('cf_log_interest', p_device);
  end if;
end $$;
comment on function public.cf_end_logs(uuid, text, text) is 'Say that a viewer reads a container''s log no more.';

revoke execute on function public.cf_follow_logs(uuid, text, text, int), public.cf_end_logs(uuid, text, text)
  from public, anon;
grant execute on function public.cf_follow_logs(uuid, text, text, int), public.cf_end_logs(uuid, text, text)
  to authenticated, service_role;

create policy cf_log_readers on realtime.messages for select to authenticated
using (extension = 'broadcast' and (select realtime.topic()) ~ '^logs:[^/]+/.+$' and (select public.cf_is_reader()));
