-- Who watches which device: while somebody does, its collector reads it more often.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

create table public.cf_device_interest (
  viewer uuid not null,
  device text not null check (octet_length(device) between 1 and 128),
  asked_by uuid,
  expires_at timestamptz not null,
  primary key (viewer, device)
);
comment on table public.cf_device_interest is
  'Who watches which device by name: a row for each, which expires unless cf_watch_devices renews it. While there is one,
the collector reads the device more often. Not published.';
create index cf_device_interest_expiry on public.cf_device_interest (expires_at);

alter table public.cf_device_interest enable row level security;
revoke all on public.cf_device_interest from anon, authenticated;
grant select, insert, update, delete on public.cf_device_interest to service_role;

create function public.cf_watch_devices(p_viewer uuid, p_devices text[]) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  c_seconds constant int := 30;
  c_most constant int := 100;         -- devices of one viewer
  c_most_of_all constant int := 5000; -- rows of all together
  v_until constant timestamptz := pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => c_seconds);
  v_devices constant text[] := (
    select coalesce(pg_catalog.array_agg(distinct d), '{}') from pg_catalog.unnest(p_devices) d where d is not null);
  v_changed int := 0;
  v_rows int;
begin
  if not (public.cf_is_reader() or coalesce(auth.jwt() ->> 'role', '') = 'service_role') then
    raise exception 'devices are watched by viewers' using errcode = '42501',
      hint = 'The token''s app_metadata.crossfade_role must be viewer, operator or admin.';
  end if;
  if pg_catalog.cardinality(v_devices) > c_most then
    raise exception 'at most % devices may be watched by name at once', c_most using errcode = '53400';
  end if;
  delete from public.cf_device_interest
  where expires_at <= pg_catalog.clock_timestamp()
    or (viewer = p_viewer and asked_by is not distinct from auth.uid() and device <> all (v_devices));
  get diagnostics v_changed = row_count;
  update public.cf_device_interest set expires_at = v_until
  where viewer = p_viewer and asked_by is not distinct from auth.uid() and device = any (v_devices);
  if (select count(*) from public.cf_device_interest) + pg_catalog.cardinality(v_devices) > c_most_of_all then
    raise exception 'at most % devices may be watched by name by all viewers together', c_most_of_all
      using errcode = '53400';
  end if;
  insert into public.cf_device_interest (viewer, device, asked_by, expires_at)
  select p_viewer, d, auth.uid(), v_until from pg_catalog.unnest(v_devices) d
  on conflict (viewer, device) do nothing;
  get diagnostics v_rows = row_count;
  if v_rows + v_changed > 0 then
    perform pg_catalog.pg_notify('cf_device_interest', '');
  end if;
  return pg_catalog.jsonb_build_object('seconds', c_seconds);
end $$;
comment on function public.cf_watch_devices(uuid, text[]) is
  'Say, or say again before the seconds that are returned are over, that a viewer (any uuid of its own) watches these
devices and no others; an empty list ends it.';

revoke execute on function public.cf_watch_devices(uuid, text[]) from public, anon;
grant execute on function public.cf_watch_devices(uuid, text[]) to authenticated, service_role;
