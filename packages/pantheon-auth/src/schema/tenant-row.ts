/** A row of `tenants`. */
export interface TenantRow {
  id: string;
  /** Its own id, so that every row of access state has the column. */
  tenant_id: string;
  name: string;
  state: string;
  /** A list, or null: only those of the service itself. */
  audiences: string | null;
  created_at: number;
  revision: number;
}
