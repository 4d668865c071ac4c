-- Who else keeps house in this database: pg_cron may call us, pg_partman must not have our tables.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

create function public.cf_other_housekeepers() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_cron boolean := pg_catalog.to_regclass('cron.job') is not null;
  v_scheduled boolean := false;
  v_config regclass;
  v_found text[];
  v_partman text[] := '{}';
begin
  if v_cron then
    execute $q$select exists (select from cron.job where active and command like '%cf_maintain%')$q$ into v_scheduled;
  end if;
  -- By its table, not by its name in pg_extension: pg_partman can also be installed as plain SQL, in any schema.
  for v_config in
    select c.oid::regclass from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'parent_table' and not a.attisdropped
    where c.relname = 'part_config' and c.relkind = 'r'
  loop
    execute pg_catalog.format(
      $q$select array_agg(parent_table::text order by 1) from %s where parent_table ~ '^(public\.)?"?cf_(samples|rollups|events)'$q$,
      v_config) into v_found;
    v_partman := v_partman || coalesce(v_found, '{}');
  end loop;
  return pg_catalog.jsonb_build_object('cron', v_cron, 'cron_calls_us', v_scheduled, 'partman_has', v_partman);
end $$;
comment on function public.cf_other_housekeepers() is
  'What of pg_cron and pg_partman concerns our tables: whether pg_cron is there and calls cf_maintain, and which of our
tables pg_partman was told to keep, which nobody should: two would drop and make their partitions by different rules.';
revoke execute on function public.cf_other_housekeepers() from public, anon, authenticated;
grant execute on function public.cf_other_housekeepers() to service_role;
